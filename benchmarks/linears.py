"""What packing and number formats give on this processor, in interleaved rounds.

    python benchmarks/linears.py [--rows 1,2,8,16,32,128] [--layers 8] [--threads N]

Linear layers of the small GLM-4V benchmark shape. Prints the median and the best of the rounds;
only the ratios within one run mean anything.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from sightline.models.linear import Linear, can_pack

SHAPES = ((1152, 896), (896, 896), (4864, 896), (4864, 896), (896, 4864))
ROUNDS = 7


def layers(count: int, dtype: torch.dtype, *, packed: bool) -> list[Linear]:
    made = [Linear(i, o, bias=False, dtype=dtype) for o, i in SHAPES * count]
    for layer in made:
        layer.requires_grad_(requires_grad=False)
        if packed:
            layer.pack()
    return made


def run(made: list[Linear], inputs: dict[int, torch.Tensor]) -> None:
    for layer in made:
        layer(inputs[layer.in_features])


def interleave(variants: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
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
        f"{str(dtype)[6:]} {'packed' if packed else 'plain'}": (
            dtype,
            layers(arguments.layers, dtype, packed=packed),
        )
        for dtype in (torch.bfloat16, torch.float32)
        for packed in (False, True)
        if not packed or can_pack(dtype)
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
