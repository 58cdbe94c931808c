"""From a row of logits to a token id, for one sequence.

Every settings object is the request's own, and the random number comes from its seed and the
position in its answer, so other requests cannot change what is drawn.
"""

import math

import torch
from torch import Tensor

from sightline.core.sampling import SamplingParams
from sightline.engine.uniform import uniform

# Below this, the probabilities of all but the best token are zero in any case.
MIN_TEMPERATURE = 1e-5


class BadLogits(Exception):
    """The model produced a row with NaN or infinity."""


def sample(
    logits: Tensor, params: SamplingParams, *, seed: int, position: int, num_tokens: int
) -> int:
    """Pick the next token from `logits` [V]; ids from `num_tokens` on are never picked.

    `position` counts the answer's tokens before this one. Raises `BadLogits`.
    """
    row = logits[:num_tokens].float()
    if not math.isfinite(row.sum().item()):  # one pass finds a NaN or an infinity anywhere
        raise BadLogits
    if params.temperature < MIN_TEMPERATURE:
        return int(row.argmax())
    # In float64: a sum over 150,000 small float32 numbers would be off by more than the rare
    # tokens weigh. Subtracting the maximum keeps any temperature finite.
    row = row.double()
    probs = torch.softmax((row - row.max()) / params.temperature, dim=-1)
    if params.top_p < 1.0:
        return _draw_from_nucleus(probs, params.top_p, uniform(seed, position))
    return _draw(probs, uniform(seed, position))


def _draw(probs: Tensor, u: float) -> int:
    """Return the first index whose cumulative weight exceeds the share `u` of the total."""
    cumulative = probs.cumsum(-1)
    index = int(torch.searchsorted(cumulative, cumulative[-1] * u, right=True))
    return min(index, len(probs) - 1)


def _draw_from_nucleus(probs: Tensor, top_p: float, u: float) -> int:
    """Draw from the smallest set of most likely tokens whose probabilities reach `top_p`."""
    ordered, ids = probs.sort(descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    kept = max(1, int((before < top_p).sum()))
    return int(ids[_draw(ordered[:kept], u)])
