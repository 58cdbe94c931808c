"""Steps from the loop's side: begun, waited for, isolated where they fail, timed and told of."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sightline.engine.contract import Runner, Step, StepResult
from sightline.engine.isolate import isolate
from sightline.engine.meter import Meter
from sightline.engine.plan import Plan
from sightline.engine.pulse import Pulse
from sightline.engine.scheduler import Scheduler
from sightline.engine.step_log import StepLine

logger = logging.getLogger(__name__)

Note = Callable[[Sequence[str]], None]


@dataclass(slots=True)
class Begun:
    """A plan that is being computed; `step` is why not, if it could not even be queued."""

    plan: Plan
    step: Step | Exception
    began: float
    line: StepLine | None

    @property
    def is_as_queued(self) -> bool:
        return not isinstance(self.step, Exception) and self.step.is_as_queued


class Steps:
    """Begins and ends them, one at a time or one behind another."""

    def __init__(
        self, runner: Runner, scheduler: Scheduler, meter: Meter, pulse: Pulse, *, log_steps: bool
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._meter = meter
        self._pulse = pulse
        self._log_steps = log_steps
        self._noted: tuple[str, ...] = ()
        self._ended_at: float | None = None

    def begin(self, plan: Plan, note: Note) -> Begun:
        """Begin to compute `plan`; what goes wrong shows at the end."""
        self.tell(plan, note)
        began = time.monotonic()
        for sequence in plan.admitted:
            if sequence.admitted_at is None:
                sequence.admitted_at = began
                self._meter.queue_time_s.add(began - sequence.arrived_at)
        step: Step | Exception
        line = self._line(plan)
        try:
            step = self._runner.begin(plan)
        except Exception as error:
            step = error
        return Begun(plan, step, began, line)

    def begin_behind(self, plan: Plan, before: Begun) -> Begun | None:
        """Begin with `plan` while `before` is under way; None if that has to end before.

        It counts for nothing unless `before` turns out to be as it was queued.
        """
        if not plan or isinstance(before.step, Exception):
            return None
        try:
            step = self._runner.begin_behind(plan, before.step)
        except Exception as error:  # it will be met again when the plan's turn comes
            logger.info("no step was queued behind another (%s: %s)", type(error).__name__, error)
            return None
        return None if step is None else Begun(plan, step, time.monotonic(), self._line(plan))

    def draw(self, begun: Begun) -> None:
        """Choose the tokens of a step behind another one, whose results are in the books now.

        What goes wrong shows at the end.
        """
        try:
            if not isinstance(begun.step, Exception):
                begun.step.draw()
        except Exception as error:
            begun.step = error

    def end(self, begun: Begun) -> StepResult:
        """Wait for the end. Raises `DeviceLost` when no work is possible any more."""
        plan, step = begun.plan, begun.step
        try:
            if isinstance(step, Exception):
                raise step
            result = step.result()
        except Exception as error:
            result = isolate(self._runner, plan, error)
        ended = time.monotonic()
        # While the step before was under way nothing of this one was.
        began, before = begun.began, self._ended_at
        if before is not None:
            self._meter.idle_gap_s.add(
                max(0.0, began - before if result.gap_s is None else result.gap_s)
            )
            began = max(began, before)
        self._ended_at = ended
        self._pulse.beat()
        meter = self._meter
        meter.num_steps += 1
        meter.step_time_s.add(ended - began)
        meter.batch_seqs.add(len(plan.chunks))
        meter.batch_tokens.add(plan.num_slots)
        if begun.line is not None:
            begun.line.write(result, ended - began)
        return result

    def compute(self, plan: Plan, note: Note) -> StepResult:
        return self.end(self.begin(plan, note))

    def tell(self, plan: Plan, note: Note) -> None:
        """Note who is on the device when the turn of `plan` has come."""
        self._pulse.beat()
        running = tuple(chunk.sequence.request_id for chunk in plan.chunks)
        if running != self._noted:
            self._noted = running
            note(running)

    def rest(self, note: Note) -> bool:
        """There is nothing to compute; say whether there was before."""
        self._pulse.beat()
        self._ended_at = None
        if not self._noted:
            return False
        self._noted = ()
        note(())
        return True

    def _line(self, plan: Plan) -> StepLine | None:
        if not self._log_steps:
            return None
        return StepLine(self._meter.num_steps + 1, plan, self._scheduler)
