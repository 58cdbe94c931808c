"""Paged attention by our own Triton kernels: decodes in splits, chunks in tiles.

A decode is two launches a layer: turning, storing and attending in one, then putting the splits
together. Importing this module needs Triton, and using it a C compiler, as Triton does.
"""

import math

import torch
import triton
from torch import Tensor

from sightline.models.attention import Rotary, Turns
from sightline.models.gpu import attention_kernels as kernels
from sightline.models.gpu import dependent_launch
from sightline.models.kv_pool import KVPool
from sightline.models.paged_batch import PagedBatch

DECODE_SLOTS = 64
MAX_SPLITS = 32
# A product of matrices has at least so many rows and columns.
LEAST = 16
DEFAULT_CORES = 132


class TritonBackend:
    """`is_dependent` says how decodes are launched: see `dependent_launch`."""

    name = "triton"
    can_depend = True
    is_dependent = False

    def over(self, pool: KVPool, batch: PagedBatch) -> "TritonAttention":
        return TritonAttention(pool, batch, is_dependent=self.is_dependent)

    def withdraw(self) -> None:
        pass

    def graph_slots(self, num_slots: int) -> int:
        return 0


class TritonAttention:
    def __init__(self, pool: KVPool, batch: PagedBatch, *, is_dependent: bool) -> None:
        self._pool = pool
        self._batch = batch
        self._launched = dependent_launch.options(is_dependent=is_dependent)
        self._rotate: Rotary | None = None
        self._turns: Turns | None = None
        self._scratch: tuple[Tensor, Tensor] | None = None

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self._attend(layer, query, key, value, None)

    def turning(self, layer: int, heads: Tensor, num_groups: int, rotate: Rotary) -> Tensor:
        if rotate is not self._rotate:
            self._rotate, self._turns = rotate, rotate.turns(heads.dtype)
        num_heads = heads.shape[-2] - 2 * num_groups
        query, key, value = torch.split(heads, [num_heads, num_groups, num_groups], dim=-2)
        return self._attend(layer, query, key, value, self._turns)

    def _attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, turns: Turns | None
    ) -> Tensor:
        keys, values = self._pool.keys[layer], self._pool.values[layer]
        num_decodes, num_rows = self._batch.num_decodes, self._batch.num_rows
        out = query.new_empty(num_rows, *query.shape[1:])
        if num_decodes:
            self._decode(
                query[:num_decodes], key[:num_decodes], value[:num_decodes],
                turns, keys, values, out,
            )  # fmt: skip
        if num_decodes < num_rows:
            self._chunks(query, key, value, turns, keys, values, out)
        return out.flatten(1)

    def _decode(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        turns: Turns | None,
        keys: Tensor,
        values: Tensor,
        out: Tensor,
    ) -> None:
        number, num_heads, head_dim = query.shape
        block_size, num_groups = keys.shape[1:3]
        num_splits = count_splits(number * num_groups, keys.device)
        partial, weights = self._partial(number, num_heads, num_splits, head_dim, query.device)
        block_d = _round_up(head_dim)
        batch = self._batch
        kernels.attend_decodes[number, num_groups, num_splits](
            query, key, value, *_tables(turns, query),
            keys, values, batch.tables, batch.lengths, partial, weights,
            query.stride(0), key.stride(0), value.stride(0), batch.tables.stride(0),
            1 / math.sqrt(head_dim),
            NUM_HEADS=num_heads, NUM_GROUPS=num_groups, HEAD_DIM=head_dim,
            BLOCK_D=block_d, BLOCK_R=_round_up(num_heads // num_groups), BLOCK_S=DECODE_SLOTS,
            BLOCK_SIZE=block_size, NUM_SPLITS=num_splits, PAIRS=_pairs(turns),
            IS_SCALED=turns is not None and turns.query_scales is not None,
            num_warps=4, num_stages=3 if keys.dtype.itemsize == 2 else 2, **self._launched,
        )  # fmt: skip
        kernels.merge_splits[number * num_heads,](
            partial, weights, out,
            HEAD_DIM=head_dim, BLOCK_D=block_d, NUM_SPLITS=num_splits, num_warps=4,
            **self._launched,
        )  # fmt: skip

    def _chunks(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        turns: Turns | None,
        keys: Tensor,
        values: Tensor,
        out: Tensor,
    ) -> None:
        num_rows, num_heads, head_dim = query.shape
        block_size, num_groups = keys.shape[1:3]
        batch, first = self._batch, self._batch.num_decodes
        block_d = _round_up(head_dim)
        turned = query.new_empty(num_rows, num_heads, head_dim)
        kernels.turn_and_store[num_rows - first, num_heads + num_groups](
            query, key, value, *_tables(turns, query),
            turned, keys, values, batch.new_slots,
            query.stride(0), key.stride(0), value.stride(0), first,
            NUM_HEADS=num_heads, NUM_GROUPS=num_groups, HEAD_DIM=head_dim, BLOCK_D=block_d,
            PAIRS=_pairs(turns), IS_SCALED=turns is not None and turns.query_scales is not None,
            num_warps=1,
        )  # fmt: skip
        block_t, block_s, num_warps, num_stages = _tile(keys.dtype, block_d, keys.device)
        tiles = triton.cdiv(batch.max_new, block_t)
        kernels.attend_chunks[tiles, num_heads, batch.num_sequences - first](
            turned, keys, values, batch.tables, batch.lengths, batch.first_rows, out,
            batch.tables.stride(0), first, 1 / math.sqrt(head_dim),
            NUM_HEADS=num_heads, NUM_GROUPS=num_groups, HEAD_DIM=head_dim, BLOCK_D=block_d,
            BLOCK_T=block_t, BLOCK_S=block_s, BLOCK_SIZE=block_size,
            num_warps=num_warps, num_stages=num_stages,
        )  # fmt: skip

    def _partial(
        self, number: int, num_heads: int, num_splits: int, head_dim: int, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return where splits are put; every layer uses the same place."""
        if self._scratch is None:
            shape = (number, num_heads, num_splits)
            self._scratch = (
                torch.empty((*shape, head_dim), dtype=torch.float32, device=device),
                torch.empty(shape, dtype=torch.float32, device=device),
            )
        return self._scratch


def count_splits(num_pairs: int, device: torch.device) -> int:
    """Return into how many stretches to cut sequences, so that all cores have work."""
    cores = DEFAULT_CORES
    if device.type == "cuda":
        cores = torch.cuda.get_device_properties(device).multi_processor_count
    splits = 1
    while splits < MAX_SPLITS and 2 * splits * num_pairs <= 2 * cores:
        splits *= 2
    return splits


def _tables(turns: Turns | None, query: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cosines, sines and scales; a tensor in the place of what is not there is not read."""
    if turns is None:
        return query, query, query
    scales = query if turns.query_scales is None else turns.query_scales
    return turns.cosines, turns.sines, scales


def _pairs(turns: Turns | None) -> int:
    if turns is None:
        return kernels.NOT_TURNED.value
    return kernels.NEIGHBOURS.value if turns.are_neighbours else kernels.HALVES.value


def _round_up(size: int) -> int:
    return max(LEAST, triton.next_power_of_2(size))


def _tile(dtype: torch.dtype, block_d: int, device: torch.device) -> tuple[int, int, int, int]:
    """Return rows and slots of a tile, warps and stages, as the shared memory allows."""
    is_large = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9
    if dtype.itemsize > 2 or block_d > 128:
        return 32, 32, 4, 2
    return (128, 64, 8, 3) if is_large else (64, 32, 4, 2)
