"""Failures on purpose, to rehearse what happens around them. Never on in production.

A prompt that holds one of the chosen token ids triggers its failure in every step that it is part
of, as a bug that only one input meets would.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

from sightline.core.engine_options import FaultOptions
from sightline.engine.contract import Runner, Step, StepResult
from sightline.engine.plan import Plan
from sightline.engine.sampler import BadLogits
from sightline.engine.sequence import Sequence


class Done:
    """A step that was over when it had begun."""

    is_as_queued = True

    def __init__(self, result: StepResult) -> None:
        self._result = result

    def draw(self) -> None: ...

    def result(self) -> StepResult:
        return self._result


class FaultyRunner:
    """Implements `contract.Runner` on top of another one."""

    def __init__(self, runner: Runner, faults: FaultOptions) -> None:
        self._runner = runner
        self._faults = faults

    @property
    def when_queued(self) -> Callable[[], None] | None:
        return self._runner.when_queued

    @when_queued.setter
    def when_queued(self, call: Callable[[], None] | None) -> None:
        self._runner.when_queued = call

    def compute(self, plan: Plan) -> StepResult:
        if self.when_queued is not None:
            self.when_queued()  # whatever happens here happens to a step that is under way
        time.sleep(self._faults.step_delay_s)
        if any(self._with(plan, self._faults.raise_token)):
            raise RuntimeError("a fault on purpose")
        if any(self._with(plan, self._faults.hang_token)):
            threading.Event().wait()
        if any(self._with(plan, self._faults.kill_token)):
            os.kill(os.getpid(), signal.SIGSEGV)  # as a bug in native code would
        result = self._runner.compute(plan)
        for sequence in self._with(plan, self._faults.nan_token):
            result.outcomes[sequence] = BadLogits()
        return result

    def begin(self, plan: Plan) -> "Done":
        return Done(self.compute(plan))

    def begin_behind(self, plan: Plan, step: Step) -> None:
        return None

    def release(self, sequence: Sequence) -> None:
        self._runner.release(sequence)

    def check_device(self) -> None:
        self._runner.check_device()

    def _with(self, plan: Plan, token: int | None) -> Iterator[Sequence]:
        return (chunk.sequence for chunk in plan.chunks if token in chunk.sequence.prompt)
