"""Shows attention where to look: a loss on the weights of a few heads. Nothing of it ships.

Almost all wrong answers about a scene named a property of *another* thing in it: the tower saw
both, the language model looked at the wrong one. So the word that names a thing is told which image
rows to look at in one layer, the words of the answer in the next.
"""

from typing import Any

import torch
from torch import Tensor, nn

from sightline.models.glm_4v_9b import Glm4v

# (layer, KV group, weight of the loss) for the words of a question and of an answer, all counted
# from 0. The first pair is where a model that was trained without this loss had begun to look.
_PLACES = ((1, 0, 1.0), (2, 1, 0.3))


class Looks:
    """Watches what goes into the attention of two layers and judges some of their weights."""

    def __init__(self, model: Glm4v) -> None:
        self._attention = [
            model.transformer.encoder.layers[layer].self_attention for layer, _, _ in _PLACES
        ]
        self._seen: dict[int, tuple[Tensor, Any, Any]] = {}
        for kind, attention in enumerate(self._attention):
            attention.register_forward_pre_hook(self._watch(kind))

    def _watch(self, kind: int) -> Any:
        def watch(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            rows, norm, rotate, _attend = inputs
            self._seen[kind] = rows, norm, rotate

        return watch

    def loss(self, looks: Tensor, looked_at: Tensor) -> Tensor:
        """Return the summed -log of the attention on the rows to look at, after a forward pass.

        For `prompts.Batch`'s looks [N, 4] and looked_at [N, num_image_tokens].
        """
        total = self._seen[0][0].sum() * 0
        for kind, (_, group, weight) in enumerate(_PLACES):
            attention = self._attention[kind]
            chosen = (looks[:, 2] == kind).nonzero().squeeze(1)
            if not len(chosen):
                continue
            row, slot, _, start = looks[chosen].unbind(1)
            x, norm, rotate = self._seen[kind]
            heads = attention.query_key_value.normed(x, norm)
            query, keys, _ = rotate.apart(heads.unflatten(-1, (-1, attention.head_dim)))
            per_group = query.shape[-2] // attention.num_groups
            query = query[..., group * per_group : (group + 1) * per_group, :].float()
            keys = keys[..., group, :].float()
            scores = torch.einsum("bthd,bsd->bths", query, keys) * attention.head_dim**-0.5
            future = torch.ones(scores.shape[1], scores.shape[3], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future.to(x.device)[:, None], float("-inf"))
            whole = scores.logsumexp(-1)[row, slot]  # [N, heads]
            slots = start[:, None] + torch.arange(looked_at.shape[1], device=x.device)
            wanted = scores[row[:, None], slot[:, None], :, slots].transpose(1, 2)
            wanted = wanted.masked_fill(~looked_at[chosen][:, None], float("-inf"))
            total = total + weight * (whole - wanted.logsumexp(-1)).mean(1).sum()
        return total
