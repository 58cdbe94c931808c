"""Every way of paged attention on a GPU, against the exact one of the CPU.

Triton's kernels run in its interpreter where there is no GPU; the same tests run on a GPU with
`pytest -m gpu`.
"""

import importlib.util
import os
from random import Random

import pytest
import torch
from torch import Tensor

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when the kernels are imported

from sightline.models.attention import PagedAttention
from sightline.models.gpu.backend import AttentionBackend
from sightline.models.gpu.gather_attention import GatherBackend
from sightline.models.kv_pool import KVPool, Segment
from sightline.models.paged_batch import PagedBatch

HAS_TRITON = importlib.util.find_spec("triton") is not None

pytestmark = pytest.mark.engine


def backend_of(name: str) -> AttentionBackend:
    if name == "sdpa":
        return GatherBackend()
    if not HAS_TRITON:
        pytest.skip("Triton is not installed")
    from sightline.models.gpu.triton_attention import TritonBackend

    return TritonBackend()


def pool_of(num_groups: int, head_dim: int, block_size: int) -> KVPool:
    """A pool full of NaN: whoever looks at a slot that nobody wrote will show it."""
    pool = KVPool.allocate(
        num_layers=1,
        num_blocks=40,
        block_size=block_size,
        num_groups=num_groups,
        head_dim=head_dim,
        dtype=torch.float32,
        device="cpu",
    )
    pool.keys.fill_(torch.nan)
    pool.values.fill_(torch.nan)
    return pool


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CASES = {
    "one decode": [(1, 0)],
    "decodes of many lengths": [(1, 0), (1, 70), (1, 15), (1, 16), (1, 129)],
    "a prompt": [(37, 0)],
    "a later chunk": [(33, 20)],
    "everything together": [(1, 40), (1, 3), (20, 0), (5, 64), (1, 9)],
}


@pytest.mark.parametrize("name", ["sdpa", "triton"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("num_heads", "num_groups", "head_dim"), [(4, 2, 16), (3, 3, 24)])
def test_all_backends_agree_with_the_exact_one(
    name: str, case: str, num_heads: int, num_groups: int, head_dim: int
) -> None:
    dice = Random(0)
    block_size = 16
    exact, pool = (pool_of(num_groups, head_dim, block_size) for _ in range(2))
    exact.keys.zero_(), exact.values.zero_()
    free = list(range(40))
    dice.shuffle(free)
    segments = []
    for num_new, num_cached in CASES[case]:
        blocks = [free.pop() for _ in range(-(-(num_new + num_cached) // block_size))]
        segments.append(Segment(num_new, num_cached, blocks))
    for index, segment in enumerate(segments):
        for slot in exact.slots(Segment(segment.num_cached, 0, segment.blocks)):
            place = slot // block_size, slot % block_size
            for kind, (one, other) in enumerate(
                ((exact.keys, pool.keys), (exact.values, pool.values))
            ):
                one[0, *place] = other[0, *place] = drawn(
                    1000 * index + 2 * slot + kind, num_groups, head_dim
                )
    num_rows = sum(segment.num_new for segment in segments)
    query = drawn(1, num_rows, num_heads, head_dim)
    key, value = drawn(2, num_rows, num_groups, head_dim), drawn(3, num_rows, num_groups, head_dim)

    expected = PagedAttention(exact, segments, num_rows)(0, query, key, value)
    batch = PagedBatch.of(pool, segments, num_rows)
    found = backend_of(name).over(pool, batch)(0, query, key, value)

    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    for segment in segments:
        slots = exact.slots(segment)
        for one, other in ((exact.keys, pool.keys), (exact.values, pool.values)):
            assert torch.equal(one[0].flatten(0, 1)[slots], other[0].flatten(0, 1)[slots])
