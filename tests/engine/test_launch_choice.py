"""How a step's kernels are launched; a device is a clock that says what it is told."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sightline.engine.launch_choice import REPLAYS_CHECKED, choose_launches

pytestmark = pytest.mark.engine

Replay = Callable[[], None]


class Step:
    """A recorded step whose kernels are launched `dependent` or not."""

    def __init__(self, *, error: float = 0.0, trembles: bool = False, breaks: bool = False) -> None:
        self.dependent = False
        self._error, self._trembles, self._breaks = error, trembles, breaks
        self.num_replays = 0

    def let_depend(self, is_dependent: bool) -> None:
        self.dependent = is_dependent

    def trial(self, recorder: object) -> tuple[Replay, Tensor]:
        if self.dependent and self._breaks:
            raise RuntimeError("no such launch")
        scores, dependent = torch.zeros(1, 4), self.dependent

        def replay() -> None:
            self.num_replays += 1
            scores.copy_(torch.tensor([[1.0, -2.0, 3.0, 0.5]]))
            if dependent:
                scores[0, 0] += self._error
            if dependent and self._trembles and self.num_replays > REPLAYS_CHECKED:
                scores[0, 1] += 1e-6

        return replay, scores


def choose(step: Step, alone_s: float, dependent_s: float) -> bool:
    times = iter((alone_s, dependent_s))
    choose_launches(step, step.let_depend, object, seconds=lambda replay: next(times))  # type: ignore[arg-type]
    return step.dependent


def test_kernels_depend_on_each_other_where_that_is_faster(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        assert choose(Step(), 5e-3, 4e-3)
    assert "launched overlapping (alone 5.000 ms, overlapping 4.000 ms)" in caplog.text
    assert not choose(Step(), 4e-3, 5e-3)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Step(error=0.5), "they give another result"),
        (Step(trembles=True), "they give another result every time"),
        (Step(breaks=True), "no such launch"),
    ],
)
def test_what_is_wrong_or_fails_is_passed_over_however_fast(
    step: Step, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert not choose(step, 5e-3, 1e-3)
    assert f"dependent launches are passed over (RuntimeError: {reason})" in caplog.text
