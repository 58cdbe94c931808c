"""Compiles the GPU's kernels as the code launches them, for real cards, without one.

`python compile_kernels.py CAPABILITY...` prints a line of JSON for each launch: kernel, capability,
bytes of shared memory, what the card has, and whether matrices are multiplied by units made for
that. Only Triton's compiler is needed, no driver.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sightline.models.attention import Turns
from sightline.models.gpu import (
    attention_kernels,
    dependent_launch,
    fast_norms,
    fast_tower,
    linear_kernels,
    norm_kernels,
    tower_kernels,
    triton_attention,
)
from sightline.models.gpu.dependent_launch import is_possible
from sightline.models.gpu.fast_linears import CANDIDATES, rms_norm, silu_times
from sightline.models.gpu.few_rows import FewRows
from sightline.models.gpu.quantized_linears import FEW_ROWS, StoredKernel
from sightline.models.kv_pool import KVPool, Segment
from sightline.models.linear import GatedLinear, Linear, Norm
from sightline.models.paged_batch import PagedBatch
from sightline.models.quantization import Scheme
from sightline.models.quantized import QuantizedWeight, stored_tensors

# What CUDA's programming guide says a block of threads may have at most.
SHARED = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
TYPES = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
}
NAMES = ("turn_and_store", "attend_decodes", "merge_splits", "attend_chunks")
DECODES_AND_CHUNK = [Segment(1, 20, [0, 1]), Segment(1, 3, [2]), Segment(40, 0, [3, 4, 5])]


class Compiled:
    """Takes a kernel's place: a launch compiles it."""

    def __init__(self, kernel: Any, capability: int) -> None:
        self._kernel = kernel
        self._capability = capability

    def __getitem__(self, grid: tuple[int, ...]) -> "Compiled":
        return self

    def __call__(
        self,
        *args: Any,
        num_warps: int,
        num_stages: int = 3,
        launch_pdl: bool = False,
        **constants: Any,
    ) -> None:
        signature, attributes = dict.fromkeys(self._kernel.arg_names, "constexpr"), {}
        for index, value in enumerate(args):
            name = self._kernel.arg_names[index]
            is_tensor = isinstance(value, torch.Tensor)
            signature[name] = TYPES[value.dtype] if is_tensor else _number(value)
            if is_tensor or (isinstance(value, int) and value % 16 == 0):
                attributes[index,] = [["tt.divisibility", 16]]
        made = triton.compile(
            _source(self._kernel, signature, constants, attributes),
            target=GPUTarget("cuda", self._capability, 32),
            options={"num_warps": num_warps, "num_stages": num_stages}
            | ({"launch_pdl": True} if launch_pdl else {}),
        )
        found = {
            "kernel": self._kernel.__name__,
            "capability": self._capability,
            "shared": made.metadata.shared,
            "limit": 1024 * SHARED[self._capability],
            "has_tensor_product": "mma" in made.asm["ptx"],
            "is_dependent": launch_pdl,
            "waits_first": _waits_first(made.asm["ptx"]),
            "constants": {name: v for name, v in constants.items() if isinstance(v, int)},
        }
        print(json.dumps(found), flush=True)


def _waits_first(ptx: str) -> bool:
    """Whether nothing is read or written before the end of the kernel before is waited for."""
    before, wait, _ = ptx.partition("griddepcontrol.wait")
    body = before.partition("{")[2]
    return bool(wait) and re.search(r"\b(ld|st|cp)\.(?!param|async\.bulk\.prefetch)", body) is None


def _source(
    kernel: Any,
    signature: dict[str, str],
    constants: dict[str, Any],
    attributes: dict[tuple[int], list[list[Any]]],
) -> ASTSource:
    try:
        from triton.backends.compiler import AttrsDescriptor
    except ImportError:
        values = {(kernel.arg_names.index(name),): v for name, v in constants.items()}
        return ASTSource(kernel, signature, values, attributes)
    # Triton 3.2, which torch 2.6 comes with.
    divisible = {"tt.divisibility": [index for (index,) in attributes]}
    described = AttrsDescriptor.from_dict({"cls": "AttrsDescriptor", "arg_properties": divisible})
    types = {name: kind for name, kind in signature.items() if kind != "constexpr"}
    return ASTSource(kernel, types, constants, described)


def _number(value: float) -> str:
    return "i32" if isinstance(value, int) else "fp32"


@contextmanager
def on_a_card(capability: int) -> Iterator[None]:
    """Let the code believe that it runs there."""
    real_tile, card = triton_attention._tile, SimpleNamespace(type="cuda")
    with (
        patch("torch.cuda.get_device_capability", lambda _: divmod(capability, 10)),
        patch.object(dependent_launch, "get_device_capability", lambda _: divmod(capability, 10)),
        patch.object(triton_attention, "_tile", lambda t, d, _: real_tile(t, d, card)),
    ):
        patches = [
            patch.object(module, name, Compiled(getattr(module, name), capability))
            for module, names in (
                (attention_kernels, NAMES),
                (norm_kernels, ("layer_norm", "rounding_norm")),
                (tower_kernels, ("turn_halves", "quick_gelu")),
                (linear_kernels, ("few_rows", "dequantize", "rms_norm", "silu_times")),
            )
            for name in names
        ]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()


def attend(
    num_heads: int,
    num_groups: int,
    dtype: torch.dtype,
    turns: Turns | None,
    *,
    is_dependent: bool = False,
) -> None:
    """Launch everything for two decodes and a chunk."""
    pool = KVPool(*(torch.zeros(1, 6, 16, num_groups, 128, dtype=dtype) for _ in range(2)))
    num_rows = sum(segment.num_new for segment in DECODES_AND_CHUNK)
    batch = PagedBatch.of(pool, DECODES_AND_CHUNK, num_rows)
    heads = torch.zeros(num_rows, num_heads + 2 * num_groups, 128, dtype=dtype)
    backend = triton_attention.TritonBackend()
    backend.is_dependent = is_dependent
    attention = backend.over(pool, batch)
    attention.turning(0, heads, num_groups, SimpleNamespace(turns=lambda _: turns))  # type: ignore[arg-type]


def linears(dtype: torch.dtype, *, is_dependent: bool = False) -> None:
    """Launch GLM-4-9B's layers for few rows."""
    norm = Norm(4096, 1e-6).to(dtype)
    x = torch.zeros(2, 4096, dtype=dtype)
    with torch.device("meta"):
        layers = Linear(4096, 4608), Linear(4096, 4096, bias=False), GatedLinear(4096, 13696)
    for tiles in CANDIDATES:
        joined, dense, gated = few = [FewRows(layer.to(dtype), tiles) for layer in layers]
        for kernel in few:
            kernel.is_dependent = is_dependent
        joined(x, norm=norm)
        dense(x, residual=x)
        gated(x, norm=norm)
    rms_norm(x, norm.weight, norm.eps)
    silu_times(x)
    rows, weight = torch.zeros(2, 1792, dtype=dtype), torch.ones(1792, dtype=dtype)
    fast_norms.layer_norm(rows, weight, weight, 1e-6, residual=rows)
    fast_norms.rounding_norm(rows, weight, 1e-6)
    # Qwen2-VL's tower: 16 heads of 80 numbers.
    table = torch.zeros(2, 80)
    fast_tower.turn_halves(torch.zeros(1, 2, 3840, dtype=dtype), table, table, 32)
    fast_tower.quick_gelu(torch.zeros(2, 5120, dtype=dtype))


def quantized(scheme: Scheme, dtype: torch.dtype, *, is_dependent: bool = False) -> None:
    """Launch what quantised layers use, of the same shapes: alone, then as a step has them."""
    norm = Norm(4096, 1e-6).to(dtype)
    with torch.device("meta"):
        weights = [
            QuantizedWeight(*(torch.empty(s.shape, dtype=s.dtype) for s in stored.values()))
            for stored in (stored_tensors("", (n, 4096), scheme) for n in (4608, 2 * 13696))
        ]
        layers = Linear(4096, 4608, bias=False), GatedLinear(4096, 13696)
    for num_rows in () if is_dependent else (1, FEW_ROWS, FEW_ROWS + 1):
        StoredKernel(weights[0])(torch.zeros(num_rows, 4096, dtype=dtype), None)
    if dtype != torch.bfloat16:
        return
    x = torch.zeros(2, 4096, dtype=dtype)
    for layer, weight in zip(layers, weights, strict=True):
        layer.quantize(weight)
        for tiles in CANDIDATES:
            few = FewRows(layer, tiles)
            few.is_dependent = is_dependent
            few(x, norm=norm)


def main() -> None:
    for capability in map(int, sys.argv[1:]):
        dtype = torch.float16 if capability < 80 else torch.bfloat16
        rows = sum(segment.num_new for segment in DECODES_AND_CHUNK)
        wide, table = torch.zeros(rows, 128), torch.zeros(rows, 128, dtype=dtype)
        with on_a_card(capability):
            attend(32, 2, dtype, Turns(table, table, are_neighbours=True))  # GLM-4V-9B
            attend(32, 32, dtype, Turns(wide, wide, are_neighbours=False, query_scales=wide[:, 0]))
            attend(28, 4, dtype, None)  # Qwen2-VL-7B, turned before
            if dtype == torch.bfloat16:
                linears(dtype)
            for scheme in ("int8", "int4"):
                quantized(scheme, dtype)
            if is_possible(torch.device("cuda")):
                attend(32, 2, dtype, Turns(table, table, are_neighbours=True), is_dependent=True)
                linears(dtype, is_dependent=True)
                for scheme in ("int8", "int4"):
                    quantized(scheme, dtype, is_dependent=True)


if __name__ == "__main__":
    main()
