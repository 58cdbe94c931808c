"""One readable line for a step: what was computed, and why no more. For `--debug-engine`.

A worked example is in docs/architecture.md.
"""

import logging

from sightline.engine.contract import StepResult
from sightline.engine.plan import Chunk, Plan
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence

logger = logging.getLogger("sightline.engine.steps")


class StepLine:
    """What there is to say of a step, looked up before it is computed.

    Meanwhile the next step may be planned already, and the books tell of that one then.
    """

    def __init__(self, number: int, plan: Plan, scheduler: Scheduler) -> None:
        pool = scheduler.pool
        self._plan = plan
        self._books = (
            f"step {number}",
            f"{scheduler.num_running} running, {scheduler.num_waiting} waiting",
            f"blocks {pool.num_used} used, {pool.num_cached} cached of {pool.num_blocks}",
        )
        self._prefills = [_prefill(chunk) for chunk in plan.chunks if not chunk.is_decode]
        found = {chunk.sequence: chunk.start for chunk in plan.chunks}
        self._changes = []
        if plan.admitted:
            shown = (f"{_name(s)} ({found.get(s, s.num_computed)} cached)" for s in plan.admitted)
            self._changes.append(f"admitted {', '.join(shown)}")
        if plan.preempted:
            shown = (f"{_name(s)} (time {s.num_preemptions})" for s in plan.preempted)
            self._changes.append(f"no block was left: {', '.join(shown)} gave way")

    def write(self, result: StepResult, seconds: float) -> None:
        """Log the step, now that it has been computed."""
        plan = self._plan
        parts = [*self._books, f"{plan.num_slots} tokens: {self._work(result)}"]
        parts += [f"{seconds * 1e3:.1f} ms", *self._changes]
        failed = [s for s, outcome in result.outcomes.items() if isinstance(outcome, Exception)]
        if failed:
            parts.append(f"failed {', '.join(map(_name, failed))}")
        if plan.held_back:
            parts.append(f"head of the line waits for {plan.held_back}")
        logger.info(" | ".join(parts))

    def _work(self, result: StepResult) -> str:
        plan = self._plan
        parts = [f"decode x{plan.num_decodes}"] if plan.num_decodes else []
        if plan.num_guessed:
            outcomes = [result.outcomes[chunk.sequence] for chunk in plan.chunks if chunk.guessed]
            num_right = sum(len(said) - 1 for said in outcomes if not isinstance(said, Exception))
            parts.append(f"{num_right} of {plan.num_guessed} guesses right")
        parts += self._prefills
        if result.num_encoded:
            pictures = "picture" if result.num_encoded == 1 else "pictures"
            milliseconds = result.encode_s * 1e3
            parts.append(f"{result.num_encoded} {pictures} encoded in {milliseconds:.0f} ms")
        return ", ".join(parts)


def _prefill(chunk: Chunk) -> str:
    sequence = chunk.sequence
    total = len(sequence.prompt) + len(sequence.answer)
    again = " again" if sequence.num_preemptions else ""
    return f"prefill{again} {_name(sequence)} {chunk.start}..{chunk.end} of {total}"


def _name(sequence: Sequence) -> str:
    """The request's number; what follows it on the wire identifies the prompt."""
    return sequence.request_id.partition(".")[0]
