"""What a decode step costs against the number of live sequences, and how much of it is the host's.

    python benchmarks/host_side.py FOLDER [--live 1,4,16,64,256] [--context 200] [--threads 1]

The whole engine loop with a model in FOLDER: scheduler, batch, sampling, messages. Per step: wall
time, processor time of the loop's thread outside the model, and of the scheduler in that.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

from sightline.core.engine_options import EngineOptions
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput
from sightline.engine.build import assemble_engine
from sightline.engine.loop import EngineLoop
from sightline.models.loading import load_model

BLOCK = 16
STEPS = 50
# The first answers run long before the last prompt is done.
ROOM = 400


class Clock:
    """Adds up this thread's processor time in the calls that it follows."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def follow(self, owner: Any, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*arguments, **options)
            finally:
                self.seconds += time.thread_time() - began

        return timed


class Steps:
    """Delivers to nobody, and notes what every step of all sequences took."""

    def __init__(self, loop: EngineLoop, live: int, model: Clock, scheduler: Clock) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self._loop, self._live = loop, live
        self._clocks = (model, scheduler)
        self._last = self._now()

    def __call__(self, output: StepOutput) -> None:
        msgspec.msgpack.encode(output)
        now = self._now()
        if len(output.deltas) == self._live:
            wall, thread, model, scheduler = (b - a for a, b in zip(self._last, now, strict=True))
            self.rows.append((wall, thread - model, scheduler))
            if len(self.rows) == STEPS:
                self._loop.stop()
        self._last = now

    def _now(self) -> tuple[float, ...]:
        times = (time.perf_counter(), time.thread_time())
        return *times, *(clock.seconds for clock in self._clocks)


def measure(folder: Path, live: int, context: int, threads: int) -> dict[str, float]:
    loaded = load_model(folder, device="cpu", packed=True)
    one_block = loaded.model.allocate_pool(1, BLOCK).size_bytes
    num_blocks = live * -(-(context + ROOM) // BLOCK) + live
    options = EngineOptions(
        model=str(folder),
        device="cpu",
        num_threads=threads,
        max_model_len=context + ROOM,
        block_size=BLOCK,
        kv_cache_memory=num_blocks * one_block,
        max_num_seqs=live,
        overlap_steps=False,
    )
    loop = assemble_engine(options, loaded, num_tokens=loaded.description.vocab_size)
    model, scheduler = Clock(), Clock()
    model.follow(loaded.model, "run", "logits", "embed")
    scheduler.follow(loop._scheduler, "plan", "settle")
    params = SamplingParams(max_tokens=ROOM, temperature=0)
    for number in range(live):
        ids = tuple((7919 * number + 31 * slot) % 200 for slot in range(context))
        loop.submit(
            Generate(request_id=str(number), token_ids=ids, spans=(), cache_salt=b"", params=params)
        )
    steps = Steps(loop, live, model, scheduler)
    loop.run(steps)
    wall, host, deciding = (
        1e3 * statistics.median(times) for times in zip(*steps.rows, strict=True)
    )
    return {
        "live": live,
        "step_ms": wall,
        "token_ms": wall / live,
        "host_ms": host,
        "scheduler_ms": deciding,
        "scheduler_percent": 100 * deciding / wall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--live", default="1,4,16,64,256")
    parser.add_argument("--context", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for live in map(int, arguments.live.split(",")):
        found = measure(arguments.folder, live, arguments.context, arguments.threads)
        print(json.dumps({key: round(value, 3) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
