"""Log-probabilities of tokens, by the model's own scores: queued with a step, read when it is done.

Legend: N rows that ask for them, V ids of the tokenizer, K likeliest tokens.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.models.transfer import Fetch

# The weight of the best token. 2**18 such weights still fit an int64; a token 10**13 times less
# likely than the best one weighs nothing.
SCALE = 2**44
_LOWER_HALF = 2**32 - 1


class LogProbabilities:
    """Those of tokens `ids` `[N]`, and of the `number` likeliest of each row of scores `[N, V]`.

    `fetch` brings them to the host; wait for it before asking.
    """

    def __init__(self, scores: Tensor, ids: Tensor, number: int, fetch: Fetch) -> None:
        number = min(number, scores.shape[-1])
        # A processor keeps one row in its caches; a GPU is not asked whose scores are equal.
        is_cpu = scores.device.type == "cpu"
        parts = torch.split(scores, 1) if is_cpu else (scores,)
        find = best_ids_among_few if is_cpu else best_ids
        likeliest = torch.cat([find(part, number) for part in parts])
        self._scores = scores
        self._told = fetch.add(ids)
        self._chosen = fetch.add(scores.gather(1, ids[:, None])[:, 0])
        self._best = fetch.add(scores.amax(-1))
        self._totals = fetch.add(torch.cat([weights(part).sum(-1) for part in parts]))
        self._ids = fetch.add(likeliest)
        self._likeliest = fetch.add(scores.gather(1, likeliest))

    def of(self, row: int, token_id: int, number: int) -> tuple[float, list[tuple[int, float]]]:
        """Return that of a token, and the `number` likeliest with theirs, best first."""
        log_total = math.log(int(self._totals[row]) / SCALE)
        best = float(self._best[row])

        def logprob(score: float) -> float:
            return score - best - log_total

        # A token that was drawn once more is asked for where its score lies.
        is_told = token_id == int(self._told[row])
        score = float(self._chosen[row] if is_told else self._scores[row, token_id])
        ids, scores = self._ids[row].tolist(), self._likeliest[row].tolist()
        pairs: Sequence[tuple[int, float]] = list(zip(ids, scores, strict=True))[:number]
        return logprob(score), [(other, logprob(score)) for other, score in pairs]


def weights(scores: Tensor, temperature: Tensor | float = 1.0) -> Tensor:
    """Return int64 [N, V] in proportion to the probabilities; the best token weighs `SCALE`."""
    exact = scores.double()
    return (((exact - exact.amax(-1, keepdim=True)) / temperature).exp() * SCALE).long()


def best_ids(scores: Tensor, number: int) -> Tensor:
    """Return the ids of the highest of fp32 scores `[N, V]`, best first; of equal ones the lower.

    A library's `topk` takes any of equal ones. Here no two are equal: the bits of a float, turned
    over where it is negative, are in its order, and below them stands the id, lower ones higher.
    """
    if number == 0:
        return torch.empty(len(scores), 0, dtype=torch.int64, device=scores.device)
    bits = (scores + 0.0).view(torch.int32)  # a negative zero equals zero
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    last = scores.shape[-1] - 1
    ids = torch.arange(last, -1, -1, device=scores.device)
    highest = ((ordered << 32) | ids).topk(number, dim=-1).values
    return last - (highest & _LOWER_HALF)


def best_ids_among_few(scores: Tensor, number: int) -> Tensor:
    """Return the same for a row `[1, V]`, sooner, by looking at how many there are of the last."""
    if number == 0:
        return best_ids(scores, number)
    candidates = (scores[0] >= scores.topk(number).values[0, -1]).nonzero()[:, 0]
    return candidates[best_ids(scores[:, candidates], number)]
