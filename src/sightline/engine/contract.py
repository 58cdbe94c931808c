"""What the loop needs of whatever computes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from sightline.engine.plan import Plan
from sightline.engine.sampler import Sampled
from sightline.engine.sequence import Sequence


class DeviceLost(Exception):
    """The device cannot be used any more; only a new process can help."""


@dataclass(slots=True)
class StepResult:
    """What came of a plan: for every sequence in it its next tokens, or why it failed.

    That is one token, none before the prompt has been computed, and more where guesses were right.
    `gap_s` is how long the device had nothing to do before, where it can tell.
    """

    outcomes: dict[Sequence, list[Sampled] | Exception] = field(default_factory=dict)
    num_encoded: int = 0
    encode_s: float = 0.0
    gap_s: float | None = None

    def __or__(self, other: "StepResult") -> "StepResult":
        return StepResult(
            self.outcomes | other.outcomes,
            self.num_encoded + other.num_encoded,
            self.encode_s + other.encode_s,
        )


class Step(Protocol):
    """What has been queued. `is_as_queued` tells, once there is a result, whether its tokens are
    those that a step behind it has read on the device.
    """

    is_as_queued: bool

    def draw(self) -> None:
        """Choose its tokens, if that had to wait for those of the step before; else do nothing."""
        ...

    def result(self) -> StepResult:
        """Wait for it. Raises as `Runner.compute`."""
        ...


class Runner(Protocol):
    """Owns the tensors. Every method runs on the thread that owns the device."""

    when_queued: Callable[[], None] | None
    """Called for each plan once the host has nothing more to do than to wait, or earlier."""

    def compute(self, plan: Plan) -> StepResult:
        """Compute every chunk of `plan`, and sample where one ends at the newest token.

        A plan, or a part of it, may be computed again: nothing changes by that. If this raises,
        any sequence of the plan may be to blame, but none of the others is harmed.
        """
        ...

    def begin(self, plan: Plan) -> Step:
        """Do the same, and let the caller wait for it."""
        ...

    def begin_behind(self, plan: Plan, step: Step) -> Step | None:
        """Queue `plan`, which was made while `step` is under way; None if that must end before.

        Of sequences that end with `step` the results are worth nothing; nor is any of them unless
        `step` is as it was queued. `plan` has to be computed then.
        """
        ...

    def release(self, sequence: Sequence) -> None:
        """Free what is kept for `sequence` beside its blocks; harmless if there is nothing."""
        ...

    def check_device(self) -> None:
        """Raise `DeviceLost` if the device does not compute any more."""
        ...
