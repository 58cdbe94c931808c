"""From rows of logits to token ids, many sequences at once.

A row's result never depends on the other rows, bit for bit. Scores become whole numbers before
anything is added up, because sums of floats depend on their order, and the order on the shape of
the batch; sums of integers do not. The random number comes from the request's own seed and the
position in its answer. So what is true of every step here is true alone and in company, and a
plain loop in Python gives the same tokens.

The order: bias and penalties, grammar, temperature, min_p, top_k, top_p, each on what the one
before has left. Log-probabilities are those of the model itself, before all of this.

Legend: N rows, V ids of the tokenizer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from sightline.core.sampling import SamplingParams
from sightline.engine.penalties import TokenHistory, adjust
from sightline.engine.uniform import uniform

# Below this, the probabilities of all but the best token are zero in any case.
MIN_TEMPERATURE = 1e-5
# The weight of the best token. 2**18 such weights still fit an int64; a token 10**13 times less
# likely than the best one weighs nothing.
SCALE = 2**44
# More scores than this are not worked on at once; it bounds the memory of a step.
GROUP_SCORES = 2**23
# How far down the list of best tokens a nucleus is looked for before everything is sorted.
NUM_BEST = 1024


class BadLogits(Exception):
    """The model produced a row with NaN or infinity."""


class NothingAllowed(Exception):
    """A grammar, or biases, leave no token to choose."""


class MaskProvider(Protocol):
    """Says which tokens may come next; made ahead of time, so that no step waits for it long."""

    def mask(self) -> Tensor:
        """Return bool `[V]` on the CPU, true where a token is allowed."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class SamplingRow:
    """What one row of logits is judged by.

    `answer` may be the sequence's own growing list. Kept from step to step, a row remembers which
    tokens it has counted; a new one for each step gives the same results.
    """

    params: SamplingParams
    seed: int
    prompt: Sequence[int]
    answer: Sequence[int]
    grammar: MaskProvider | None = None
    history: TokenHistory = field(default_factory=TokenHistory)


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token; if asked for, its log-probability and the likeliest tokens, best first."""

    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


def sample_rows(
    logits: Tensor, rows: Sequence[SamplingRow], *, num_tokens: int
) -> list[Sampled | Exception]:
    """Pick a token for each row of `logits` [N, V or more]; ids from `num_tokens` on never.

    A row that cannot be sampled gives its exception in its place: `BadLogits`, `NothingAllowed`,
    or what its mask provider raised.
    """
    size = max(1, GROUP_SCORES // num_tokens)
    sampled: list[Sampled | Exception] = []
    for start in range(0, len(rows), size):
        group = logits[start : start + size, :num_tokens].float()
        sampled += _sample_group(group, rows[start : start + size])
    return sampled


@torch.inference_mode()
def _sample_group(raw: Tensor, rows: Sequence[SamplingRow]) -> list[Sampled | Exception]:
    results: dict[int, Sampled | Exception] = {}
    scores = _adjusted(raw, rows)
    for index, is_good in enumerate(_finite(raw)):
        if not is_good:
            results[index] = BadLogits()
            scores[index] = 0
    for index, row in enumerate(rows):
        if row.grammar is None or index in results:
            continue
        try:
            scores[index].masked_fill_(~row.grammar.mask().to(scores.device), -math.inf)
        except Exception as error:
            results[index] = error
    best_scores, best = scores.max(-1)
    for index, score in enumerate(best_scores.tolist()):
        if score == -math.inf:
            results.setdefault(index, NothingAllowed())
    ids = best.tolist()
    drawn = [
        index
        for index, row in enumerate(rows)
        if row.params.temperature >= MIN_TEMPERATURE and index not in results
    ]
    if drawn:
        chosen = _draw(scores[drawn], [rows[index] for index in drawn])
        for index, token_id in zip(drawn, chosen, strict=True):
            ids[index] = token_id
    for index, row in enumerate(rows):
        if index not in results:
            results[index] = _describe(raw[index], row, ids[index])
    return [results[index] for index in range(len(rows))]


def _finite(raw: Tensor) -> list[bool]:
    low, high = torch.aminmax(raw, dim=-1)  # a NaN makes both NaN
    finite: list[bool] = (low.isfinite() & high.isfinite()).tolist()
    return finite


def _adjusted(raw: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Return the scores with biases and penalties, float32 [N, V], a copy."""
    scores = raw.clone()
    for score, row in zip(scores, rows, strict=True):
        adjust(score, row.params, row.prompt, row.answer, row.history)
    return scores


def _draw(scores: Tensor, rows: Sequence[SamplingRow]) -> list[int]:
    """Draw an id for each row; every row has a score above minus infinity."""
    params = [row.params for row in rows]

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=scores.device)[:, None]

    weights = _weights(scores, column([p.temperature for p in params]))
    if any(p.min_p > 0 for p in params):
        weights.masked_fill_(weights < column([p.min_p * SCALE for p in params]), 0)
    cut = [i for i, p in enumerate(params) if p.top_k > 0 or p.top_p < 1]
    if cut:
        weights[cut] = _keep_best(weights[cut], [params[index] for index in cut])
    cumulative = weights.cumsum(-1)
    totals = cumulative[:, -1:]
    shares = column([uniform(row.seed, len(row.answer)) for row in rows])
    targets = (shares * totals.double()).long().minimum(totals - 1)
    drawn: list[int] = torch.searchsorted(cumulative, targets, right=True)[:, 0].tolist()
    return drawn


def _weights(scores: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Return int64 [N, V] in proportion to the probabilities; the best token weighs `SCALE`."""
    exact = scores.double()
    return (((exact - exact.amax(-1, keepdim=True)) / temperature).exp() * SCALE).long()


def _keep_best(weights: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Set to zero what `top_k` and then `top_p` cut off; of equal tokens the lower id stays."""
    num_ids = weights.shape[-1]
    depth = min(num_ids, NUM_BEST)
    if any(depth < p.top_k < num_ids for p in params):
        depth = num_ids
    counts, best = _count_kept(weights, params, depth)
    if depth < num_ids and bool((counts >= depth).any()):
        counts, best = _count_kept(weights, params, num_ids)
    cutoff = best.gather(-1, counts - 1)
    num_above = (weights > cutoff).sum(-1, keepdim=True)
    ties = weights == cutoff
    ties &= ties.cumsum(-1) <= counts - num_above
    return weights.masked_fill(~(ties | (weights > cutoff)), 0)


def _count_kept(
    weights: Tensor, params: Sequence[SamplingParams], depth: int
) -> tuple[Tensor, Tensor]:
    """Return how many of the best tokens each row keeps [N, 1], and the best weights [N, depth].

    A count of `depth` may be too low, unless `depth` is V.
    """
    device, num_ids = weights.device, weights.shape[-1]
    best = weights.topk(depth, dim=-1).values
    top_k = torch.tensor([p.top_k if p.top_k > 0 else num_ids for p in params], device=device)
    top_k = top_k.clamp(max=num_ids)[:, None]
    outside = torch.arange(depth, device=device) >= top_k
    listed = best.masked_fill(outside, 0)
    totals = torch.where(
        top_k < num_ids, listed.sum(-1, keepdim=True), weights.sum(-1, keepdim=True)
    )
    top_p = torch.tensor([p.top_p for p in params], dtype=torch.float64, device=device)[:, None]
    before = listed.cumsum(-1) - listed
    kept = (before.double() < top_p * totals.double()) & ~outside
    return kept.sum(-1, keepdim=True).clamp(min=1), best


def _describe(raw: Tensor, row: SamplingRow, token_id: int) -> Sampled:
    """Add the log-probabilities that were asked for, from the model's own scores [V]."""
    num_top = row.params.logprobs
    if num_top is None:
        return Sampled(token_id)
    total = int(_weights(raw[None]).sum())
    log_total = math.log(total / SCALE)
    best = float(raw.max())

    def logprob(score: float) -> float:
        return score - best - log_total

    top = [(other, logprob(score)) for other, score in _best(raw, num_top)]
    return Sampled(token_id, logprob(float(raw[token_id])), tuple(top))


def _best(raw: Tensor, number: int) -> list[tuple[int, float]]:
    """Return the `number` highest scores with their ids; of equal ones the lower id first."""
    number = min(number, len(raw))
    if number == 0:
        return []
    cutoff = raw.topk(number).values[-1]
    candidates = (raw >= cutoff).nonzero()[:, 0]
    pairs = zip(candidates.tolist(), raw[candidates].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:number]
