"""Every way of paged attention on a GPU, against the exact one of the CPU.

Triton's kernels run in its interpreter where there is no GPU, and on the GPU where there is one.
"""

import logging
from random import Random

import pytest
import torch
from gpu_kernels import (
    DEVICES,
    HAS_GPU,
    attention_backend,
    let_the_interpreter_multiply_bfloat16,
    needs_the_interpreter,
    needs_triton,
)
from torch import Tensor

from sightline.core.errors import StartupError
from sightline.models.attention import PagedAttention
from sightline.models.gpu import choice
from sightline.models.gpu.backend import AttentionBackend
from sightline.models.gpu.choice import choose_attention
from sightline.models.gpu.gather_attention import GatherAttention, GatherBackend
from sightline.models.kv_pool import KVPool, Segment
from sightline.models.paged_batch import PagedBatch

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]  # an interpreter takes its time


def pool_of(num_groups: int, head_dim: int, block_size: int, device: str = "cpu") -> KVPool:
    """A pool full of NaN: whoever looks at a slot that nobody wrote will show it."""
    pool = KVPool.allocate(
        num_layers=1,
        num_blocks=40,
        block_size=block_size,
        num_groups=num_groups,
        head_dim=head_dim,
        dtype=torch.float32,
        device=device,
    )
    pool.keys.fill_(torch.nan)
    pool.values.fill_(torch.nan)
    return pool


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CASES = {
    "decodes of many lengths": [(1, 0), (1, 70), (1, 15), (1, 129)],
    "a prompt": [(37, 0)],
    "everything together": [(1, 40), (1, 3), (20, 0), (5, 64), (1, 9)],
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["sdpa", "triton"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("num_heads", "num_groups", "head_dim"), [(4, 2, 16), (3, 3, 24)])
def test_all_backends_agree_with_the_exact_one(
    device: str, name: str, case: str, num_heads: int, num_groups: int, head_dim: int
) -> None:
    if name == "triton" and device == "cpu":
        needs_the_interpreter()
    dice = Random(0)
    block_size = 16
    exact = pool_of(num_groups, head_dim, block_size)
    pool = pool_of(num_groups, head_dim, block_size, device)
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
                one[0, *place] = drawn(1000 * index + 2 * slot + kind, num_groups, head_dim)
                other[0, *place] = one[0, *place].to(device)
    num_rows = sum(segment.num_new for segment in segments)
    query = drawn(1, num_rows, num_heads, head_dim)
    key, value = drawn(2, num_rows, num_groups, head_dim), drawn(3, num_rows, num_groups, head_dim)

    expected = PagedAttention(exact, segments, num_rows)(0, query, key, value)
    batch = PagedBatch.of(pool, segments, num_rows)
    attend = attention_backend(name).over(pool, batch)
    found = attend(0, query.to(device), key.to(device), value.to(device))

    torch.testing.assert_close(found.cpu(), expected, atol=2e-5, rtol=1e-4)
    for segment in segments:
        slots = exact.slots(segment)
        for one, other in ((exact.keys, pool.keys), (exact.values, pool.values)):
            assert torch.equal(one[0].flatten(0, 1)[slots], other[0].flatten(0, 1)[slots].cpu())


SHAPE = {"num_heads": 4, "num_groups": 2, "head_dim": 16, "dtype": torch.float32}
CPU = torch.device("cpu")
FOR_KERNELS = torch.device("cuda:0") if HAS_GPU else CPU


class Broken(GatherBackend):
    """Runs, but computes something else."""

    name = "triton"

    def over(self, pool: KVPool, batch: PagedBatch) -> GatherAttention:
        return Wrong(pool, batch)


class Wrong(GatherAttention):
    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return super().__call__(layer, query, key, value) * 1.5


class Slow(GatherBackend):
    """Right; how long it takes the clock says."""

    name = "triton"


def absent() -> AttentionBackend:
    raise ImportError("there is no such kernel")


def test_what_computes_wrongly_or_not_at_all_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    candidates = {"triton": Broken, "varlen": absent, "sdpa": GatherBackend}
    monkeypatch.setattr(choice, "_CANDIDATES", candidates)
    with caplog.at_level(logging.INFO):
        assert choose_attention("auto", **SHAPE, device=CPU).name == "sdpa"  # type: ignore[arg-type]
    assert "attention by triton is passed over (WrongResult: off by" in caplog.text
    assert "attention by varlen is passed over (ImportError: there is no such kernel" in caplog.text
    with pytest.raises(StartupError, match="'varlen' does not work here"):
        choose_attention("varlen", **SHAPE, device=CPU)  # type: ignore[arg-type]


def test_what_takes_much_longer_over_a_long_prompt_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    candidates = {"triton": Slow, "sdpa": GatherBackend}
    monkeypatch.setattr(choice, "_CANDIDATES", candidates)
    monkeypatch.setattr(choice, "has_clock", lambda device: True)
    for slow_s, chosen in ((1.6e-3, "sdpa"), (1.4e-3, "triton")):
        times = {"triton": slow_s, "sdpa": 1e-3}
        monkeypatch.setattr(choice._Desk, "seconds", lambda _, one, case, t=times: t[one.name])
        with caplog.at_level(logging.INFO):
            assert choose_attention("auto", **SHAPE, device=CPU).name == chosen  # type: ignore[arg-type]
    assert "passed over (TooSlow: 1.60 ms for a layer of a long prompt" in caplog.text
    assert choose_attention("triton", **SHAPE, device=CPU).name == "triton"  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("num_heads", "num_groups"), [(32, 2), (28, 4)])
def test_our_own_kernels_are_right_in_the_shapes_of_real_models(
    monkeypatch: pytest.MonkeyPatch, num_heads: int, num_groups: int, dtype: torch.dtype
) -> None:
    """GLM-4V-9B and Qwen2-VL-7B; few slots, because an interpreter takes its time."""
    needs_triton()
    let_the_interpreter_multiply_bfloat16(monkeypatch)
    monkeypatch.setattr(choice, "CASES", (((1, 0), (1, 40)), ((1, 3), (5, 16))))
    backend = choose_attention(
        "triton",
        num_heads=num_heads,
        num_groups=num_groups,
        head_dim=128,
        dtype=dtype,
        device=FOR_KERNELS,
    )
    assert backend.name == "triton"


def test_our_own_kernels_pass_the_check_that_they_get_at_start() -> None:
    needs_triton()
    backend = choose_attention("triton", **SHAPE, device=FOR_KERNELS)  # type: ignore[arg-type]
    assert backend.name == "triton"
