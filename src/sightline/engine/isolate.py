"""A step that fails must fail for the guilty one only."""

import logging

from sightline.engine.contract import DeviceLost, Runner, StepResult
from sightline.engine.plan import Plan

logger = logging.getLogger(__name__)


def compute_isolated(runner: Runner, plan: Plan) -> StepResult:
    """Compute `plan`; if that raises, compute it by halves until the guilty sequence is alone.

    The others get what they would have got: a result does not depend on company. Raises
    `DeviceLost` when it is the device that does not work any more.
    """
    try:
        return runner.compute(plan)
    except Exception as error:
        return isolate(runner, plan, error)


def isolate(runner: Runner, plan: Plan, error: Exception) -> StepResult:
    """Return what `compute_isolated` does of a plan of which it is known what it raises."""
    if isinstance(error, DeviceLost):
        raise error
    runner.check_device()
    if len(plan.chunks) == 1:
        sequence = plan.chunks[0].sequence
        logger.error("request %s failed in a step", sequence.request_id, exc_info=error)
        return StepResult({sequence: error})
    logger.warning(
        "a step of %d sequences failed (%s); trying halves",
        len(plan.chunks),
        type(error).__name__,
    )
    first, second = plan.halves()
    return compute_isolated(runner, first) | compute_isolated(runner, second)
