"""What a decode step costs against the number of live sequences, and where the time goes.

    python benchmarks/sequences.py FOLDER [--context 200] [--live 1,4,16,64,256] [--dtype auto]

Fills the cache of each sequence with `--context` slots and times decode steps of all of them, with
the model alone: no scheduler, no sampling. Prints milliseconds per step and per token.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from sightline.models.kv_pool import Segment
from sightline.models.loading import load_model
from sightline.models.packing import pack_linears

BLOCK = 16
STEPS = 8


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--context", type=int, default=200)
    parser.add_argument("--live", default="1,4,16,64,256")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loaded = load_model(arguments.folder, device="cpu", dtype=arguments.dtype)
    model = loaded.model
    pack_linears(model)
    per_sequence = -(-(arguments.context + STEPS + 2) // BLOCK)
    for live in map(int, arguments.live.split(",")):
        pool = model.allocate_pool(live * per_sequence, BLOCK)
        pool.keys.normal_()
        pool.values.normal_()
        ids = torch.zeros(live, dtype=torch.int64)
        times = []
        for step in range(STEPS + 2):
            slot = arguments.context + step
            positions = model.positions(slot + 1, [])[..., -1:]
            segments = [
                Segment(1, slot, range(n * per_sequence, (n + 1) * per_sequence))
                for n in range(live)
            ]
            began = time.perf_counter()
            repeated = positions.expand(*positions.shape[:-1], live)
            model.logits(model.forward_batch(model.embed(ids), repeated, pool, segments))
            times.append(1e3 * (time.perf_counter() - began))
        step_ms = statistics.median(times[2:])
        row = {"live": live, "step_ms": round(step_ms, 2), "token_ms": round(step_ms / live, 3)}
        print(json.dumps(row | {"dtype": str(loaded.dtype)[6:]}), flush=True)


if __name__ == "__main__":
    main()
