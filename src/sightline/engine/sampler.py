"""From rows of logits to token ids, many sequences at once.

A row's result never depends on the other rows, bit for bit. Scores become whole numbers before
anything is added up, because sums of floats depend on their order, and the order on the shape of
the batch; sums of integers do not. The random number comes from the request's own seed and the
position in its answer. So what is true of every step here is true alone and in company, and a
plain loop in Python gives the same tokens.

On a GPU everything is queued without waiting for the device.

The order: bias and penalties, grammar, temperature, min_p, top_k, top_p, each on what the one
before has left. Log-probabilities are those of the model itself, before all of this.

Legend: N rows, V ids of the tokenizer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from sightline.core.sampling import SamplingParams
from sightline.engine.log_probabilities import SCALE, LogProbabilities
from sightline.engine.log_probabilities import weights as weights_of
from sightline.engine.penalties import TokenHistory, adjust, adjusts
from sightline.engine.uniform import uniform
from sightline.models.transfer import Fetch, send, to_device

# Below this, the probabilities of all but the best token are zero in any case.
MIN_TEMPERATURE = 1e-5
# More scores than this are not worked on at once; it bounds the memory of a step.
GROUP_SCORES = 2**23
# How far down the list of best tokens a nucleus is looked for before everything is sorted.
NUM_BEST = 1024
# For so many tokens after one that was not found there, no step is queued behind another.
DEEP_PAUSE = 32


class BadLogits(Exception):
    """The model produced a row with NaN or infinity."""


class NothingAllowed(Exception):
    """A grammar, or biases, leave no token to choose."""


class MaskProvider(Protocol):
    """Says which tokens may come next; made ahead of time, so that no step waits for it long."""

    def mask(self, num_guessed: int = 0) -> Tensor:
        """Return bool `[V]` on the CPU, true where a token is allowed behind so many guesses."""
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
    num_guessed: int = 0  # tokens at the end of `answer` that nobody has said yet
    deep_at: int | None = None  # where a token was last drawn again, see `Draws.is_as_queued`

    def with_guesses(self, guessed: Sequence[int]) -> "list[SamplingRow]":
        """Return this row, and one behind each guessed token, as if that had been said."""
        behind = (
            replace(
                self,
                answer=[*self.answer, *guessed[:end]],
                history=self.history.copy(),
                num_guessed=end,
            )
            for end in range(1, len(guessed) + 1)
        )
        return [self, *behind]

    @property
    def can_be_ahead(self) -> bool:
        """Whether a step may be begun before this row's token is known.

        Where the nucleus is wide, it hardly ever stays within what a step sorts, and another is
        drawn.
        """
        return self.deep_at is None or len(self.answer) - self.deep_at >= DEEP_PAUSE


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token; if asked for, its log-probability and the likeliest tokens, best first."""

    token_id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


def said(
    guessed: Sequence[int], outcomes: Sequence[Sampled | Exception]
) -> list[Sampled] | Exception:
    """Return what a sequence says, from what was sampled at its newest token and at each guess.

    That ends with the first token that was not guessed: what follows a wrong guess is worth
    nothing. A failure behind a right guess will be met again in the next step, by itself.
    """
    right: list[Sampled] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, Exception):
            return right or outcome
        right.append(outcome)
        if index == len(guessed) or outcome.token_id != guessed[index]:
            break
    return right


def sample_rows(
    logits: Tensor, rows: Sequence[SamplingRow], *, num_tokens: int
) -> list[Sampled | Exception]:
    """Pick a token for each row of `logits` [N, V or more]; ids from `num_tokens` on never.

    A row that cannot be sampled gives its exception in its place: `BadLogits`, `NothingAllowed`,
    or what its mask provider raised.
    """
    fetch = Fetch(logits.device)
    draws = Draws(logits, rows, fetch, num_tokens=num_tokens)
    fetch.wait()
    return draws.results()


class Draws:
    """Tokens on their way: what the device has to do is queued, `results` reads what came of it.

    `fetch` brings them to the host; wait for it before asking for results. `newest` `[N]` are the
    tokens behind the answers, where only the device knows them; `ids` `[N]` those behind these.
    """

    def __init__(
        self,
        logits: Tensor,
        rows: Sequence[SamplingRow],
        fetch: Fetch,
        *,
        num_tokens: int,
        newest: Tensor | None = None,
    ) -> None:
        size = max(1, GROUP_SCORES // num_tokens)
        self._groups = [
            _Group(
                logits[start : start + size, :num_tokens].float(),
                rows[start : start + size],
                None if newest is None else newest[start : start + size],
                fetch,
            )
            for start in range(0, len(rows), size)
        ]
        first, *others = (group.ids for group in self._groups)
        self.ids = torch.cat((first, *others)) if others else first

    @property
    def is_as_queued(self) -> bool:
        """Whether `ids` are the results: not where a nucleus was wider than what was sorted."""
        return all(group.is_as_queued for group in self._groups)

    def results(self) -> list[Sampled | Exception]:
        """Return a token or an exception for each row, in their order."""
        return [result for group in self._groups for result in group.results()]


class _Group:
    """Rows that are worked on at once. What a bad row draws is never looked at."""

    @torch.inference_mode()
    def __init__(
        self, raw: Tensor, rows: Sequence[SamplingRow], newest: Tensor | None, fetch: Fetch
    ) -> None:
        self._rows = rows
        num_unknown = 0 if newest is None else 1
        # Answers have grown when results are asked for.
        self._places = places = [len(row.answer) + num_unknown for row in rows]
        self.is_as_queued = True
        self._errors: dict[int, Exception] = {}
        self._scores = scores = _adjusted(raw, rows, newest)
        for index, row in enumerate(rows):
            if row.grammar is None:
                continue
            try:
                allowed = send(row.grammar.mask(row.num_guessed), scores.device)
                scores[index].masked_fill_(~allowed, -math.inf)
            except Exception as error:
                self._errors[index] = error
        best_scores, ids = scores.max(-1)
        self._drawn = [
            index for index, row in enumerate(rows) if row.params.temperature >= MIN_TEMPERATURE
        ]
        self._is_deep: Tensor | None = None
        if self._drawn:
            drawn, is_deep = _draw(
                self._some(scores, self._drawn),
                [rows[index] for index in self._drawn],
                [places[index] for index in self._drawn],
            )
            if len(self._drawn) == len(rows):
                ids = drawn
            else:
                drawn_rows = to_device(self._drawn, torch.int64, ids.device)
                ids = ids.index_copy(0, drawn_rows, drawn)
            self._is_deep = None if is_deep is None else fetch.add(is_deep)
        self._finite = fetch.add(_finite(raw))
        self._best_scores = fetch.add(best_scores)
        self.ids = ids
        self._told = fetch.add(ids)
        self._describing = [i for i, row in enumerate(rows) if row.params.logprobs is not None]
        self._described: LogProbabilities | None = None
        if self._describing:
            number = max(rows[index].params.logprobs or 0 for index in self._describing)
            asked = self._some(raw, self._describing), self._some(ids, self._describing)
            self._described = LogProbabilities(*asked, number, fetch)

    @torch.inference_mode()
    def results(self) -> list[Sampled | Exception]:
        results: list[Sampled | Exception] = []
        ids = self._told.tolist()
        rows = zip(self._finite.tolist(), self._best_scores.tolist(), strict=True)
        for index, (is_finite, best_score) in enumerate(rows):
            if not is_finite:
                results.append(BadLogits())
            elif index in self._errors:
                results.append(self._errors[index])
            elif best_score == -math.inf:
                results.append(NothingAllowed())
            else:
                results.append(Sampled(ids[index]))
        for index in self._deep_rows():
            if isinstance(results[index], Sampled):
                self._rows[index].deep_at = self._places[index]
                results[index] = Sampled(self._draw_deep(index))
                self.is_as_queued &= results[index] == Sampled(ids[index])
        for place, index in enumerate(self._describing):
            result, number = results[index], self._rows[index].params.logprobs
            if isinstance(result, Sampled) and self._described is not None and number is not None:
                logprob, top = self._described.of(place, result.token_id, number)
                results[index] = Sampled(result.token_id, logprob, tuple(top))
        return results

    def _deep_rows(self) -> list[int]:
        """Return the rows whose nucleus goes on behind the part of the list that was sorted."""
        if self._is_deep is None:
            return []
        return [
            index
            for index, is_deep in zip(self._drawn, self._is_deep.tolist(), strict=True)
            if is_deep
        ]

    def _draw_deep(self, index: int) -> int:
        scores, one = self._scores[index : index + 1], slice(index, index + 1)
        drawn, _ = _draw(scores, self._rows[one], self._places[one], depth=scores.shape[-1])
        return int(drawn)

    def _some(self, scores: Tensor, indices: list[int]) -> Tensor:
        if len(indices) == len(scores):
            return scores
        return scores.index_select(0, to_device(indices, torch.int64, scores.device))


def _finite(raw: Tensor) -> Tensor:
    low, high = torch.aminmax(raw, dim=-1)  # a NaN makes both NaN, which is neither
    return (low > -math.inf) & (high < math.inf)


def _adjusted(raw: Tensor, rows: Sequence[SamplingRow], newest: Tensor | None) -> Tensor:
    """Return the scores with biases and penalties, float32 [N, V], a copy if anything changes."""
    if not any(row.grammar is not None or adjusts(row.params) for row in rows):
        return raw
    scores = raw.clone()
    adjust(scores, rows, newest)
    return scores


def _draw(
    scores: Tensor,
    rows: Sequence[SamplingRow],
    places: Sequence[int],
    *,
    depth: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Draw an id for each row [N]; say which rows must be drawn again with more depth [N].

    The depth is `NUM_BEST` unless it is given. `places` are those of the ids in their answers.
    """
    params = [row.params for row in rows]
    depth = NUM_BEST if depth is None else depth

    def column(values: list[float]) -> Tensor:
        return to_device(values, torch.float64, scores.device)[:, None]

    weights = weights_of(scores, column([p.temperature for p in params]))
    if any(p.min_p > 0 for p in params):
        weights.masked_fill_(weights < column([p.min_p * SCALE for p in params]), 0)
    cut = [i for i, p in enumerate(params) if p.top_k > 0 or p.top_p < 1]
    is_deep: Tensor | None = None
    if len(cut) == len(rows):
        weights, is_deep = _keep_best(weights, params, depth)
    elif cut:
        cut_rows = to_device(cut, torch.int64, scores.device)
        kept, deep = _keep_best(weights[cut_rows], [params[index] for index in cut], depth)
        weights[cut_rows] = kept
        is_deep = torch.zeros(len(rows), dtype=torch.bool, device=scores.device)
        is_deep[cut_rows] = deep
    cumulative = weights.cumsum(-1)
    totals = cumulative[:, -1:]
    shares = column([uniform(row.seed, at) for row, at in zip(rows, places, strict=True)])
    targets = (shares * totals.double()).long().minimum(totals - 1)
    ids = torch.searchsorted(cumulative, targets, right=True)[:, 0]
    # Rows that are not finite have sums without an order, and may end behind the last id. The step
    # behind looks its token up before the host knows, which on a GPU would be the end of all.
    return ids.clamp_(max=scores.shape[-1] - 1), is_deep


def _keep_best(
    weights: Tensor, params: Sequence[SamplingParams], depth: int
) -> tuple[Tensor, Tensor]:
    """Set to zero what `top_k` and then `top_p` cut off; of equal tokens the lower id stays.

    Only the `depth` best tokens of a row are sorted. Rows that keep more are told [N].
    """
    num_ids = weights.shape[-1]
    depth = min(num_ids, depth)
    if any(depth < p.top_k < num_ids for p in params):
        depth = num_ids
    counts, best = _count_kept(weights, params, depth)
    cutoff = best.gather(-1, counts - 1)
    num_above = (weights > cutoff).sum(-1, keepdim=True)
    ties = weights == cutoff
    ties &= ties.cumsum(-1) <= counts - num_above
    kept = weights.masked_fill(~(ties | (weights > cutoff)), 0)
    return kept, (counts[:, 0] >= depth) & (depth < num_ids)


def _count_kept(
    weights: Tensor, params: Sequence[SamplingParams], depth: int
) -> tuple[Tensor, Tensor]:
    """Return how many of the best tokens each row keeps [N, 1], and the best weights [N, depth].

    A count of `depth` may be too low, unless `depth` is V.
    """
    device, num_ids = weights.device, weights.shape[-1]
    best = weights.topk(depth, dim=-1).values
    limits = [min(p.top_k, num_ids) if p.top_k > 0 else num_ids for p in params]
    top_k = to_device(limits, torch.int64, device)[:, None]
    outside = torch.arange(depth, device=device) >= top_k
    listed = best.masked_fill(outside, 0)
    totals = torch.where(
        top_k < num_ids, listed.sum(-1, keepdim=True), weights.sum(-1, keepdim=True)
    )
    top_p = to_device([p.top_p for p in params], torch.float64, device)[:, None]
    before = listed.cumsum(-1) - listed
    kept = (before.double() < top_p * totals.double()) & ~outside
    return kept.sum(-1, keepdim=True).clamp(min=1), best
