"""One readable line for a step: what was computed, and why no more. For `--debug-engine`.

A worked example is in docs/architecture.md.
"""

import logging

from sightline.engine.contract import StepResult
from sightline.engine.plan import Plan
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence

logger = logging.getLogger("sightline.engine.steps")


def log_step(
    number: int, plan: Plan, result: StepResult, seconds: float, scheduler: Scheduler
) -> None:
    pool = scheduler.pool
    parts = [
        f"step {number}",
        f"{scheduler.num_running} running, {scheduler.num_waiting} waiting",
        f"blocks {pool.num_used} used, {pool.num_cached} cached of {pool.num_blocks}",
        f"{plan.num_slots} tokens: {_work(plan, result)}",
    ]
    parts.append(f"{seconds * 1e3:.1f} ms")
    if plan.admitted:
        shown = (f"{_name(s)} ({s.num_cached or 0} cached)" for s in plan.admitted)
        parts.append(f"admitted {', '.join(shown)}")
    if plan.preempted:
        shown = (f"{_name(s)} (time {s.num_preemptions})" for s in plan.preempted)
        parts.append(f"no block was left: {', '.join(shown)} gave way")
    failed = [s for s, outcome in result.outcomes.items() if isinstance(outcome, Exception)]
    if failed:
        parts.append(f"failed {', '.join(map(_name, failed))}")
    if plan.held_back:
        parts.append(f"head of the line waits for {plan.held_back}")
    logger.info(" | ".join(parts))


def _work(plan: Plan, result: StepResult) -> str:
    num_decodes = plan.num_decodes
    parts = [f"decode x{num_decodes}"] if num_decodes else []
    if plan.num_guessed:
        outcomes = [result.outcomes[chunk.sequence] for chunk in plan.chunks if chunk.guessed]
        num_right = sum(len(said) - 1 for said in outcomes if not isinstance(said, Exception))
        parts.append(f"{num_right} of {plan.num_guessed} guesses right")
    for chunk in plan.chunks:
        if not chunk.is_decode:
            sequence = chunk.sequence
            total = len(sequence.prompt) + len(sequence.answer)
            again = " again" if sequence.num_preemptions else ""
            parts.append(f"prefill{again} {_name(sequence)} {chunk.start}..{chunk.end} of {total}")
    if result.num_encoded:
        pictures = "picture" if result.num_encoded == 1 else "pictures"
        milliseconds = result.encode_s * 1e3
        parts.append(f"{result.num_encoded} {pictures} encoded in {milliseconds:.0f} ms")
    return ", ".join(parts)


def _name(sequence: Sequence) -> str:
    """The request's number; what follows it on the wire identifies the prompt."""
    return sequence.request_id.partition(".")[0]
