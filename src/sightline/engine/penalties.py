"""Biases and penalties: what changes a token's score before a token is chosen.

Each is applied as itself. `logit_bias` is added to the score. `presence_penalty` and
`frequency_penalty` are taken off the scores of tokens of the answer, once and once per
occurrence. `repetition_penalty` divides a positive and multiplies a negative score of every token
of the prompt or the answer. Stop tokens are exempt from it: role headers and the slots of
pictures hold them, and an answer must be able to end.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from sightline.core.sampling import SamplingParams
from sightline.models.transfer import to_device

# A smaller divisor chooses the same tokens, until scores become infinite.
_LEAST_REPETITION = 1e-6


class TokenHistory:
    """Which tokens a sequence has, counted once each as the answer grows."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.prompt: frozenset[int] | None = None
        self._num_counted = 0

    def follow(self, answer: Sequence[int]) -> None:
        """Count what `answer` gained since the last call."""
        self.counts.update(islice(answer, self._num_counted, None))
        self._num_counted = len(answer)


def adjusts(params: SamplingParams) -> bool:
    """Whether `adjust` changes anything for a row of these parameters."""
    return bool(
        params.repetition_penalty != 1.0
        or params.presence_penalty
        or params.frequency_penalty
        or params.logit_bias
    )


def adjust(
    scores: Tensor,
    params: SamplingParams,
    prompt: Sequence[int],
    answer: Sequence[int],
    history: TokenHistory,
) -> None:
    """Apply biases and penalties to `scores` [V], in place. Ids beyond V are left out."""
    num_ids = len(scores)
    repeats = params.repetition_penalty != 1.0
    if repeats or params.presence_penalty or params.frequency_penalty:
        history.follow(answer)
    if repeats:
        if history.prompt is None:
            history.prompt = frozenset(prompt)
        seen = (history.prompt | history.counts.keys()).difference(params.stop_token_ids)
        index = _index([token_id for token_id in seen if token_id < num_ids], scores)
        chosen = scores[index]
        penalty = max(params.repetition_penalty, _LEAST_REPETITION)
        scores[index] = torch.where(chosen > 0, chosen / penalty, chosen * penalty)
    if params.presence_penalty or params.frequency_penalty:
        counts = {token_id: n for token_id, n in history.counts.items() if token_id < num_ids}
        per_token = to_device(list(counts.values()), scores.dtype, scores.device)
        scores[_index(list(counts), scores)] -= (
            params.presence_penalty + params.frequency_penalty * per_token
        )
    if params.logit_bias:
        bias = {token_id: value for token_id, value in params.logit_bias if token_id < num_ids}
        values = to_device(list(bias.values()), scores.dtype, scores.device)
        scores[_index(list(bias), scores)] += values


def _index(token_ids: Sequence[int], scores: Tensor) -> Tensor:
    return to_device(token_ids, torch.int64, scores.device)
