"""What packing and number formats give on this processor, in interleaved rounds.

    python benchmarks/linears.py [--rows 1,2,8,16,32,128] [--layers 8] [--threads N]

Linear layers of the small GLM-4V benchmark shape. Prints the median and the best of the rounds;
only the ratios within one run mean anything.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from sightline.models.cpu.streamed_weight import StreamedWeight
from sightline.models.packed_weight import (
    HalfWeight,
    OneDnnWeight,
    PackedWeight,
    can_pack,
    can_pack_half,
    can_round,
    can_stream,
)

SHAPES = ((1152, 896), (896, 896), (4864, 896), (4864, 896), (896, 4864))
ROUNDS = 7
USABLE: dict[str, Callable[[torch.dtype], bool]] = {
    "plain": lambda dtype: True,
    "oneDNN": can_pack,
    "two bytes": can_pack_half,
    "our own": lambda dtype: can_stream(),
    "our own, rounded": lambda dtype: dtype == torch.bfloat16 and can_round(),
}

Call = Callable[[torch.Tensor], torch.Tensor]


def layers(count: int, dtype: torch.dtype, kind: str) -> list[tuple[int, Call]]:
    """Return the layers' widths and products."""
    made: list[tuple[int, Call]] = []
    for num_outputs, num_inputs in SHAPES * count:
        weight = torch.randn(num_outputs, num_inputs).to(torch.bfloat16).to(dtype)
        packed: PackedWeight | None = None
        if kind == "oneDNN":
            packed = OneDnnWeight(weight)
        elif kind == "two bytes":
            packed = HalfWeight.fit(weight)
        elif kind == "our own":
            packed = StreamedWeight.fit(weight)
        elif kind == "our own, rounded":
            packed = StreamedWeight.fit(weight, rounds_rows=True)
        if packed is None:
            made.append((num_inputs, partial(F.linear, weight=weight)))
        else:
            made.append((num_inputs, partial(packed.apply, bias=None)))
    return made


def run(made: list[tuple[int, Call]], inputs: dict[int, torch.Tensor]) -> None:
    for width, call in made:
        call(inputs[width])


def interleave(variants: Mapping[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the milliseconds of every round but the first, which warms up."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(ROUNDS + 1):
        for name, variant in variants.items():
            began = time.perf_counter()
            variant()
            if number:
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="1,2,8,16,32,128")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    kinds = {
        f"{str(dtype)[6:]} {kind}": (dtype, layers(arguments.layers, dtype, kind))
        for dtype in (torch.bfloat16, torch.float32)
        for kind, is_usable in USABLE.items()
        if is_usable(dtype)
    }
    for rows in map(int, arguments.rows.split(",")):
        variants = {
            name: partial(
                run, made, {width: torch.randn(rows, width).to(dtype) for width in (896, 4864)}
            )
            for name, (dtype, made) in kinds.items()
        }
        found = {
            name: {"median_ms": round(statistics.median(ms), 2), "best_ms": round(min(ms), 2)}
            for name, ms in interleave(variants).items()
        }
        print(json.dumps({"rows": rows} | found), flush=True)


if __name__ == "__main__":
    main()
