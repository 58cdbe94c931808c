"""The bound of a decode step: how fast this processor streams a model's packed weights.

    python benchmarks/stream.py CHECKPOINT

A step for one sequence reads every weight once. Multiplies one row with each linear layer of the
language model, as packed, in interleaved rounds, and prints the seconds and the gigabytes per
second of each kind of packing.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sightline.engine.cpus import count_cpus
from sightline.models.cpu.streamed_weight import StreamedWeight
from sightline.models.linear import Linear
from sightline.models.loading import load_model
from sightline.models.packed_weight import HalfWeight, OneDnnWeight, can_round, can_stream

ROUNDS = 9
VISION = ("vision", "visual")


def language_weights(model: nn.Module) -> list[Tensor]:
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, Linear) and not set(name.split(".")) & set(VISION)
    ]


def one_dnn_alone(weight: OneDnnWeight, row: Tensor) -> None:
    """One row as it is: fast, but with other bits than in company."""
    torch.ops.mkldnn._linear_pointwise.default(row.bfloat16(), weight._packed, None, "none", [], "")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--threads", type=int, default=count_cpus())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = load_model(arguments.checkpoint, dtype="bfloat16", device="cpu").model
    assert isinstance(model, nn.Module)
    weights = language_weights(model)
    rows = [torch.randn(1, weight.shape[1]) for weight in weights]
    kinds: dict[str, list[Callable[[Tensor], object]]] = {
        "FBGEMM, two bytes, fp32 sums": [
            partial(half.apply, bias=None) for w in weights if (half := HalfWeight.fit(w))
        ],
        "oneDNN bf16, one row": [partial(one_dnn_alone, OneDnnWeight(w)) for w in weights],
    }
    if can_stream():
        kinds["our own, two bytes, fp32 sums"] = [
            partial(StreamedWeight(w).apply, bias=None) for w in weights
        ]
    if can_round():
        kinds["our own, rows of bfloat16"] = [
            partial(StreamedWeight(w, rounds_rows=True).apply, bias=None) for w in weights
        ]
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(ROUNDS + 1):
        for name, products in kinds.items():
            began = time.perf_counter()
            for product, row in zip(products, rows, strict=True):
                product(row)
            seconds[name].append(time.perf_counter() - began)
    num_bytes = sum(weight.numel() for weight in weights) * 2
    found = {
        name: {"seconds": (s := statistics.median(times[1:])), "gb_per_s": num_bytes / s / 1e9}
        for name, times in seconds.items()
    }
    print(json.dumps({"weight_bytes": num_bytes, "kinds": found}))


if __name__ == "__main__":
    main()
