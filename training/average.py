"""Averages two runs that went on from the same weights: better than either, for nothing.

    python -m training.average FIRST.pt SECOND.pt OUT.pt [--share 0.5]

What one run forgot the other one still knows. OUT.pt goes on like any other checkpoint, with the
second run's optimizer and step.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def average(first: dict[str, Any], second: dict[str, Any], share: float) -> dict[str, Any]:
    """Return a checkpoint between two: `share` of the second one's weights, heads included.

    Raises KeyError where the second has a weight or a head that the first lacks.
    """
    weights = between(first["average"], second["average"], share)
    heads = {n: between(first["heads"][n], h, share) for n, h in second["heads"].items()}
    return {**second, "model": weights, "average": weights, "heads": heads}


def between(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Return tensors on the way from `first` to `second`."""
    return {name: first[name].lerp(tensor, share) for name, tensor in second.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second's weights")
    options = parser.parse_args()
    first, second = (
        torch.load(file, map_location="cpu", weights_only=True)
        for file in (options.first, options.second)
    )
    torch.save(average(first, second, options.share), options.target)


if __name__ == "__main__":
    main()
