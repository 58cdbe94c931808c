"""The likeliest tokens of a row, found without asking a device whose scores are equal."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sightline.engine.log_probabilities import LogProbabilities, best_ids, best_ids_among_few
from sightline.models.transfer import Fetch

pytestmark = pytest.mark.engine

SCORES = st.sampled_from([-0.0, 0.0, 1.5, -1.5, 3.0e38, -3.0e38, 1e-40, -1e-40]) | st.floats(
    width=32, allow_nan=False
)


@given(st.lists(SCORES, min_size=1, max_size=40), st.integers(0, 20))
def test_the_best_come_first_and_of_equal_ones_the_lower_id(
    scores: list[float], number: int
) -> None:
    number = min(number, len(scores))
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:number]
    row = torch.tensor([scores], dtype=torch.float32)
    assert best_ids(row, number)[0].tolist() == expected
    assert best_ids_among_few(row, number)[0].tolist() == expected


def test_rows_are_told_apart_and_a_token_that_was_drawn_again_has_its_own() -> None:
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(1)) * 4
    expected = scores.double().log_softmax(-1)
    told = LogProbabilities(scores, torch.tensor([4, 8, 15]), 5, Fetch(scores.device))
    for row, token_id, number in ((0, 4, 5), (1, 8, 0), (2, 16, 2)):
        logprob, top = told.of(row, token_id, number)
        assert math.isclose(logprob, expected[row, token_id], abs_tol=1e-6)
        best = expected[row].topk(number)
        assert [token_id for token_id, _ in top] == best.indices.tolist()
        assert [score for _, score in top] == pytest.approx(best.values.tolist(), abs=1e-6)
