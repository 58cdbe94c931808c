"""How the kernels of a recorded decode step are launched on a GPU, decided at start by the clock.

One after another, or each as a dependent one that starts while the one before still runs: see
`models.gpu.dependent_launch`.
"""

import logging
from collections.abc import Callable

import torch
from torch import Tensor

from sightline.engine.decode_graphs import DecodeGraphs, Recorder, is_same
from sightline.models.transfer import DeviceClock

logger = logging.getLogger(__name__)

ROUNDS = 5
# A kernel that did not wait for the one before it would not be caught by one replay.
REPLAYS_CHECKED = 20


def seconds_of(replay: Callable[[], None]) -> float:
    """Return the device's time for a replay, the best of a few."""
    best = float("inf")
    for _ in range(ROUNDS):
        clock = DeviceClock()
        replay()
        best = min(best, clock.wait())
    return best


@torch.inference_mode()
def choose_launches(
    graphs: DecodeGraphs,
    let_depend: Callable[[bool], None],
    new_recorder: Callable[[], Recorder],
    seconds: Callable[[Callable[[], None]], float] = seconds_of,
) -> bool:
    """Let kernels depend on each other if replays stay what they were, and get faster; say so.

    `let_depend` says of all kernels of a step how they are launched from then on.
    """
    try:
        replay, scores = graphs.trial(new_recorder())
        replay()
        expected, ordinary_s = scores.clone(), seconds(replay)
        let_depend(True)
        replay, scores = graphs.trial(new_recorder())
        _check(replay, scores, expected)
        dependent_s = seconds(replay)
    except Exception as error:  # whatever a compiler or a driver may raise
        logger.info("dependent launches are passed over (%s: %s)", type(error).__name__, error)
        let_depend(False)
        return False
    is_faster = dependent_s < ordinary_s
    let_depend(is_faster)
    logger.info(
        "a step's kernels are launched %s (alone %.3f ms, overlapping %.3f ms)",
        "overlapping" if is_faster else "one by one",
        1e3 * ordinary_s,
        1e3 * dependent_s,
    )
    return is_faster


def _check(replay: Callable[[], None], scores: Tensor, expected: Tensor) -> None:
    replay()
    first = scores.clone()
    if not is_same(first, expected):
        raise RuntimeError("they give another result")
    for _ in range(REPLAYS_CHECKED):
        replay()
        if not torch.equal(scores, first):
            raise RuntimeError("they give another result every time")
