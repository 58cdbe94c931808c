"""Paged attention by torch's own `varlen_attn`, where torch has it with block tables.

That is from torch 2.12 on, with a FlashAttention 3 package beside it: the one that comes with
torch cannot read tables. Nothing has to be compiled.
"""

import inspect
from collections.abc import Callable

from torch import Tensor

from sightline.models.attention import TurnsFirst
from sightline.models.kv_pool import KVPool
from sightline.models.paged_batch import PagedBatch


class VarlenBackend:
    name = "varlen"

    def __init__(self) -> None:
        """Raise RuntimeError or ImportError where torch lacks what is needed."""
        from torch.nn import attention
        from torch.nn.attention.varlen import varlen_attn

        if "block_table" not in inspect.signature(varlen_attn).parameters:
            raise RuntimeError("this torch's varlen_attn takes no block tables")
        self._restore: Callable[[], None] | None = None
        activate = getattr(attention, "activate_flash_attention_impl", None)
        if activate is not None:
            activate("FA3")
            self._restore = getattr(attention, "restore_flash_attention_impl", None)
        self._attend = varlen_attn

    def withdraw(self) -> None:
        # Torch gets its own kernels back.
        if self._restore is not None:
            self._restore()

    def over(self, pool: KVPool, batch: PagedBatch) -> "VarlenAttention":
        return VarlenAttention(pool, batch, self._attend)

    def graph_slots(self, num_slots: int) -> int:
        return 0


class VarlenAttention(TurnsFirst):
    def __init__(self, pool: KVPool, batch: PagedBatch, attend: object) -> None:
        self._pool = pool
        self._batch = batch
        self._attend = attend
        self._new_slots = batch.new_slots.long()

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, pool = self._batch, self._pool
        keys, values = pool.keys[layer], pool.values[layer]
        keys.flatten(0, 1).index_copy_(0, self._new_slots, key)
        values.flatten(0, 1).index_copy_(0, self._new_slots, value)
        mixed: Tensor = self._attend(  # type: ignore[operator]
            query,
            keys,
            values,
            batch.first_rows,
            None,
            batch.max_new,
            batch.tables.shape[1] * pool.block_size,
            window_size=(-1, 0),
            enable_gqa=True,
            seqused_k=batch.lengths,
            block_table=batch.tables,
        )
        return mixed.flatten(1)
