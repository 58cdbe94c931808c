"""The window is shared exactly: prompt and answer together, with room for one token at least."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import RequestError
from sightline.service.budget import TokenCounts, budget_answer, require_room


def test_a_prompt_that_leaves_one_token_fits() -> None:
    require_room(TokenCounts(text=21, image=78), window=100)


def test_a_prompt_that_fills_the_window_is_refused_with_both_numbers() -> None:
    with pytest.raises(RequestError) as caught:
        require_room(TokenCounts(text=22, image=78), window=100)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"
    assert caught.value.message == (
        "This model's maximum context length is 100 tokens. However, your messages resulted in "
        "100 tokens (22 text, 78 image). The prompt is too long."
    )


@pytest.mark.parametrize(
    ("asked", "default", "granted"), [(None, 40, 30), (None, 20, 20), (5, 20, 5), (30, 20, 30)]
)
def test_the_answer_gets_what_was_asked_or_the_default_or_the_rest(asked, default, granted) -> None:
    budget = budget_answer(asked, TokenCounts(text=70), window=100, default=default)
    assert budget.max_tokens == granted
    assert budget.notices == ()


def test_asking_for_more_than_is_left_is_lowered_with_a_notice() -> None:
    budget = budget_answer(31, TokenCounts(text=70), window=100, default=20)
    assert budget.max_tokens == 30
    (notice,) = budget.notices
    assert (notice.field, notice.reason, notice.severity) == ("max_tokens", "lowered-to-30", "warn")


def test_the_notice_names_the_field_that_asked() -> None:
    budget = budget_answer(
        31, TokenCounts(text=70), window=100, default=20, param="max_completion_tokens"
    )
    assert budget.notices[0].field == "max_completion_tokens"


@settings(deadline=None)
@given(
    text=st.integers(0, 200),
    image=st.integers(0, 200),
    window=st.integers(2, 300),
    asked=st.none() | st.integers(1, 2**63),
)
def test_prompt_and_answer_never_exceed_the_window(text, image, window, asked) -> None:
    counts = TokenCounts(text=text, image=image)
    try:
        require_room(counts, window=window)
    except RequestError:
        assert text + image >= window
    else:
        budget = budget_answer(asked, counts, window=window, default=1024)
        assert 1 <= budget.max_tokens <= window - text - image
        assert bool(budget.notices) == (asked is not None and asked > budget.max_tokens)
