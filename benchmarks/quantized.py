"""What quantised weights cost in exactness and give in speed on this processor.

    python benchmarks/quantized.py --errors           # random layers of GLM-4V-9B's shapes
    python benchmarks/quantized.py --kernels          # products of one shape, interleaved
    python benchmarks/quantized.py --decode FOLDER    # a model's decode steps, interleaved

Errors are |y' - y| / |y| of products with random activations; with `outliers`, eight inputs are a
hundred times as large as the others. Of times only ratios within one run mean anything.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from sightline.models.kv_pool import Segment
from sightline.models.linear import Linear
from sightline.models.loading import load_model
from sightline.models.packing import pack_linears
from sightline.models.quantization import Scheme, choose_quantization
from sightline.models.quantized import quantize

SHAPES = {
    "language query_key_value": (4608, 4096),
    "language dense": (4096, 4096),
    "language dense_h_to_4h": (27392, 4096),
    "language dense_4h_to_h": (4096, 13696),
    "vision query_key_value": (5376, 1792),
    "vision fc1": (15360, 1792),
    "vision fc2": (1792, 15360),
    "connector dense_4h_to_h": (4096, 13696),
    "output_layer (4096 of its rows)": (4096, 4096),
}
SCHEMES: tuple[Scheme, ...] = ("int8", "int4")
ROUNDS = 9
BLOCK, CONTEXT = 16, 200


def errors() -> None:
    random = torch.Generator().manual_seed(0)
    for name, (num_outputs, num_inputs) in SHAPES.items():
        weight = torch.randn(num_outputs, num_inputs, generator=random) / num_inputs**0.5
        plain = torch.randn(32, num_inputs, generator=random)
        outliers = plain.clone()
        outliers[:, :: num_inputs // 8] *= 100
        row: dict[str, object] = {"layer": name, "shape": [num_outputs, num_inputs]}
        for scheme in SCHEMES:
            layer = Linear(num_inputs, num_outputs, bias=False)
            layer.quantize(quantize(weight, scheme))
            pack_linears(layer)
            for kind, x in (("", plain), (" outliers", outliers)):
                expected = x @ weight.T
                error = float((layer(x) - expected).norm() / expected.norm())
                row[scheme + kind] = round(error, 5)
        print(json.dumps(row), flush=True)


def layer_of(weight: Tensor, kind: str) -> Linear:
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    layer = Linear(weight.shape[1], weight.shape[0], bias=False, dtype=dtype)
    scheme = next((scheme for scheme in SCHEMES if scheme == kind), None)
    if scheme is not None:
        layer.quantize(quantize(weight, scheme))
    else:
        layer.weight.copy_(weight)
    pack_linears(layer)
    return layer


def kernels(kinds: list[str]) -> None:
    weight = torch.randn(4096, 4096) / 64
    layers = {kind: layer_of(weight, kind) for kind in kinds}
    for rows in (1, 2, 8, 32, 128, 512):
        x = torch.randn(rows, 4096)
        inputs = {kind: x.to(torch.bfloat16) if kind == "bfloat16" else x for kind in kinds}
        report({"rows": rows}, {kind: partial(layers[kind], inputs[kind]) for kind in kinds})


def decode(folder: Path, kinds: list[str], live: list[int]) -> None:
    steps = {kind: decode_step(folder, kind) for kind in kinds}
    for number in live:
        report({"live": number}, {kind: partial(step, number) for kind, step in steps.items()})


def decode_step(folder: Path, kind: str) -> Callable[[int], None]:
    quantization = choose_quantization(kind, None) if kind in SCHEMES else None
    dtype = "auto" if kind in SCHEMES else kind
    model = load_model(folder, device="cpu", dtype=dtype, quantization=quantization).model
    pack_linears(model)
    per_sequence = -(-(CONTEXT + 1) // BLOCK)
    positions = model.positions(CONTEXT + 1, [])[..., -1:]

    def step(live: int) -> None:
        pool = model.allocate_pool(live * per_sequence, BLOCK)
        segments = [
            Segment(1, CONTEXT, range(n * per_sequence, (n + 1) * per_sequence))
            for n in range(live)
        ]
        repeated = positions.expand(*positions.shape[:-1], live)
        ids = torch.zeros(live, dtype=torch.int64)
        model.logits(model.forward_batch(model.embed(ids), repeated, pool, segments))

    return step


def report(row: dict[str, int], variants: dict[str, Callable[[], object]]) -> None:
    """Print the median and the best milliseconds of interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(ROUNDS + 1):
        for name, variant in variants.items():
            began = time.perf_counter()
            variant()
            if number:
                times[name].append(1e3 * (time.perf_counter() - began))
    found = {
        name: {"median_ms": round(statistics.median(ms), 2), "best_ms": round(min(ms), 2)}
        for name, ms in times.items()
    }
    print(json.dumps(row | found), flush=True)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--decode", type=Path, metavar="FOLDER")
    parser.add_argument("--kinds", default="bfloat16,float32,int8,int4")
    parser.add_argument("--live", default="1,8")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kinds = arguments.kinds.split(",")
    if arguments.errors:
        errors()
    if arguments.kernels:
        kernels(kinds)
    if arguments.decode:
        decode(arguments.decode, kinds, [int(live) for live in arguments.live.split(",")])


if __name__ == "__main__":
    main()
