"""From logits to ids."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.sampling import SamplingParams
from sightline.engine.sampler import BadLogits, sample

LOGITS = torch.tensor([1.0, 3.0, 2.0, 0.0, 9.0])


def pick(
    logits: torch.Tensor = LOGITS,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    position: int = 0,
    num_tokens: int = 4,
) -> int:
    params = SamplingParams(max_tokens=1, temperature=temperature, top_p=top_p)
    return sample(logits, params, seed=seed, position=position, num_tokens=num_tokens)


def test_greedy_takes_the_best_id_that_the_tokenizer_has() -> None:
    assert pick(temperature=0.0) == 1


def test_ids_beyond_the_tokenizer_are_never_sampled() -> None:
    assert 4 not in {pick(temperature=2.0, seed=seed) for seed in range(500)}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_not_finite_is_refused(bad: float, temperature: float) -> None:
    row = LOGITS.clone()
    row[2] = bad
    with pytest.raises(BadLogits):
        pick(row, temperature=temperature)


def test_what_lies_beyond_the_tokenizer_does_not_matter() -> None:
    row = LOGITS.clone()
    row[4] = float("nan")
    assert pick(row, temperature=0.0) == 1


def test_frequencies_follow_the_probabilities() -> None:
    probs = torch.softmax(LOGITS[:4], -1)
    counts = Counter(pick(seed=1, position=position) for position in range(4000))
    for token_id, prob in enumerate(probs.tolist()):
        assert abs(counts[token_id] / 4000 - prob) < 0.03


def test_top_p_keeps_the_fewest_tokens_that_reach_it() -> None:
    # Probabilities 0.087, 0.644, 0.237, 0.032.
    seen = {p: {pick(top_p=p, seed=seed) for seed in range(300)} for p in (0.1, 0.7, 0.9, 0.97)}
    assert seen == {0.1: {1}, 0.7: {1, 2}, 0.9: {0, 1, 2}, 0.97: {0, 1, 2, 3}}


def test_a_seed_and_a_position_decide() -> None:
    first = [pick(temperature=2.0, seed=5, position=i) for i in range(50)]
    assert first == [pick(temperature=2.0, seed=5, position=i) for i in range(50)]
    assert first != [pick(temperature=2.0, seed=6, position=i) for i in range(50)]


def test_the_random_state_of_the_process_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    pick(temperature=1.0)
    assert torch.equal(before, torch.random.get_rng_state())


@settings(deadline=None)
@given(
    row=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20),
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1, exclude_min=True),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_any_settings_give_an_id(
    row: list[float], temperature: float, top_p: float, seed: int
) -> None:
    token_id = pick(
        torch.tensor(row), temperature=temperature, top_p=top_p, seed=seed, num_tokens=len(row)
    )
    assert 0 <= token_id < len(row)


def test_half_precision_logits_are_as_good() -> None:
    assert pick(LOGITS.bfloat16(), temperature=0.0) == 1
