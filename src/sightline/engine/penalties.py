"""Biases and penalties: what changes a token's score before a token is chosen.

Each is applied as itself. `logit_bias` is added to the score. `presence_penalty` and
`frequency_penalty` are taken off the scores of tokens of the answer, once and once per
occurrence. `repetition_penalty` divides a positive and multiplies a negative score of every token
of the prompt or the answer. Stop tokens are exempt from it: role headers and the slots of
pictures hold them, and an answer must be able to end.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import Protocol

import torch
from torch import Tensor

from sightline.core.sampling import SamplingParams
from sightline.models.transfer import to_device

# A smaller divisor chooses the same tokens, until scores become infinite.
_LEAST_REPETITION = 1e-6


class TokenHistory:
    """Which tokens a sequence has. Each is looked at once, however long the answer becomes."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self._num_counted = 0
        self._known: set[int] = set()
        self._index: Tensor | None = None
        self._num_indexed = 0

    def copy(self) -> "TokenHistory":
        """Return one that knows the same, and goes its own way from here."""
        twin = TokenHistory()
        twin.counts, twin._num_counted = self.counts.copy(), self._num_counted
        twin._known, twin._index = self._known.copy(), self._index
        twin._num_indexed = self._num_indexed
        return twin

    def follow(self, answer: Sequence[int]) -> None:
        """Count what `answer` gained since the last call."""
        self.counts.update(islice(answer, self._num_counted, None))
        self._num_counted = len(answer)

    def repeated(
        self, params: SamplingParams, prompt: Sequence[int], answer: Sequence[int], scores: Tensor
    ) -> Tensor:
        """Return the ids below V that `repetition_penalty` is about, on the device of `scores`."""
        gained: Iterable[int] = islice(answer, self._num_indexed, None)
        if self._index is None:
            gained = chain(prompt, gained)
            self._known.update(params.stop_token_ids)
        fresh = dict.fromkeys(i for i in gained if i not in self._known)
        self._num_indexed = len(answer)
        self._known.update(fresh)
        if fresh or self._index is None:
            num_ids = scores.shape[-1]
            added = _index([token_id for token_id in fresh if token_id < num_ids], scores)
            self._index = added if self._index is None else torch.cat((self._index, added))
        return self._index


class Row(Protocol):
    """What a sequence wants and has; see `sampler.SamplingRow`."""

    @property
    def params(self) -> SamplingParams: ...
    @property
    def prompt(self) -> Sequence[int]: ...
    @property
    def answer(self) -> Sequence[int]: ...
    @property
    def history(self) -> TokenHistory: ...


def adjusts(params: SamplingParams) -> bool:
    """Whether `adjust` changes anything for a row of these parameters."""
    return bool(
        params.repetition_penalty != 1.0
        or params.presence_penalty
        or params.frequency_penalty
        or params.logit_bias
    )


def adjust(scores: Tensor, rows: Sequence[Row], newest: Tensor | None = None) -> None:
    """Apply biases and penalties to `scores` [N, V], in place. Ids beyond V are left out.

    `newest` [N] are the tokens behind the answers, where only the device knows them.
    """
    _penalise_repeats(scores, rows, newest)
    for n, row in enumerate(rows):
        if adjusts(row.params):
            _adjust_row(scores[n], row, None if newest is None else newest[n : n + 1])


def _penalise_repeats(scores: Tensor, rows: Sequence[Row], newest: Tensor | None) -> None:
    """All rows at once: models that come with a penalty have it in every row of every step."""
    places = [n for n, row in enumerate(rows) if row.params.repetition_penalty != 1.0]
    if not places:
        return
    ids = [
        rows[n].history.repeated(rows[n].params, rows[n].prompt, rows[n].answer, scores)
        for n in places
    ]
    factors = [max(rows[n].params.repetition_penalty, _LEAST_REPETITION) for n in places]
    lengths = _index([len(of_row) for of_row in ids], scores)
    num_ids = sum(map(len, ids))

    def for_each_id(values: Tensor) -> Tensor:
        return values.repeat_interleave(lengths, output_size=num_ids)

    index = _index(places, scores)
    penalties = to_device(factors, scores.dtype, scores.device)
    where = (for_each_id(index), torch.cat(ids))
    penalised = _penalised(scores[where], for_each_id(penalties))
    if newest is None:
        scores[where] = penalised
        return
    last = (index, newest[index])
    penalised_last = _penalised(scores[last], penalties)
    scores[where] = penalised
    scores[last] = penalised_last  # once, whether or not it is among the others


def _penalised(scores: Tensor, penalties: Tensor) -> Tensor:
    return torch.where(scores > 0, scores / penalties, scores * penalties)


def _adjust_row(scores: Tensor, row: Row, newest: Tensor | None) -> None:
    """Do what looks at each row [V] by itself; `newest` [1]."""
    params, num_ids = row.params, len(scores)
    if params.presence_penalty or params.frequency_penalty:
        _penalise_said(scores, row, newest)
    if params.logit_bias:
        bias = {token_id: value for token_id, value in params.logit_bias if token_id < num_ids}
        values = to_device(list(bias.values()), scores.dtype, scores.device)
        scores[_index(list(bias), scores)] += values


def _penalise_said(scores: Tensor, row: Row, newest: Tensor | None) -> None:
    params, history = row.params, row.history
    history.follow(row.answer)
    counts = {token_id: n for token_id, n in history.counts.items() if token_id < len(scores)}
    index = _index(list(counts), scores)
    said = to_device(list(counts.values()), scores.dtype, scores.device)

    def penalties(said: Tensor) -> Tensor:
        return params.presence_penalty + params.frequency_penalty * said

    if newest is None:
        scores[index] -= penalties(said)
        return
    is_newest = index == newest
    scores[index] -= penalties(said + is_newest)
    is_first = ~is_newest.any(0, keepdim=True)
    scores[newest] -= penalties(torch.ones_like(is_first, dtype=scores.dtype)) * is_first


def _index(token_ids: Sequence[int], scores: Tensor) -> Tensor:
    return to_device(token_ids, torch.int64, scores.device)
