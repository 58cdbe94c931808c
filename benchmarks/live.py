"""What a token costs in the whole engine against the number of live answers, and who takes it.

    python benchmarks/live.py FOLDER [--live 1,4,16,64,256] [--context 100] [--dtype auto]

The bundled model is a good FOLDER: it is so small that everything around it shows. All answers
decode; prints the medians of a step's milliseconds: the whole, the scheduler's part, and all of
the host's part (scheduler, books, outputs encoded for the front). Processor time of one thread, so
that a busy machine says the same.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from sightline.core.engine_options import EngineOptions
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput
from sightline.engine.build import build_engine
from sightline.engine.loop import EngineLoop

STEPS = 60


class Clock:
    """Adds up the processor time of the functions that it was put around."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def around(self, owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self.total_s += time.thread_time() - began

        setattr(owner, name, timed)

    def take_ms(self) -> float:
        total_s, self.total_s = self.total_s, 0.0
        return 1e3 * total_s


def measure(loop: EngineLoop, live: int, context: int) -> dict[str, float]:
    device, scheduler = Clock(), Clock()
    device.around(loop._runner, "compute")
    scheduler.around(loop._scheduler, "plan")
    scheduler.around(loop._scheduler, "settle")
    encoder = msgspec.msgpack.Encoder()
    rows: list[tuple[float, float, float]] = []
    last = 0.0

    def deliver(output: StepOutput) -> None:
        nonlocal last
        encoder.encode(output)
        now = time.thread_time()
        row = (1e3 * (now - last), scheduler.take_ms(), device.take_ms())
        last = now
        if len(output.deltas) == live:
            rows.append(row)
        if len(rows) == STEPS:
            loop.stop()

    for number in range(live):
        params = SamplingParams(max_tokens=10_000, temperature=0.0)
        ids = tuple((number * 31 + n * 7) % 500 for n in range(context))
        loop.submit(
            Generate(
                request_id=f"{number:x}.{number:032x}",
                token_ids=ids,
                spans=(),
                cache_salt=b"",
                params=params,
            )
        )
    loop.run(deliver)
    step, plan, compute = (statistics.median(column) for column in zip(*rows[5:], strict=True))
    return {
        "live": live,
        "step_ms": step,
        "token_ms": step / live,
        "scheduler_ms": plan,
        "host_ms": step - compute,
        "scheduler_share": plan / step,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--live", default="1,4,16,64,256")
    parser.add_argument("--context", type=int, default=100)
    parser.add_argument("--dtype", default="auto")
    arguments = parser.parse_args()
    for live in map(int, arguments.live.split(",")):
        options = EngineOptions(
            model=str(arguments.folder),
            dtype=arguments.dtype,
            num_threads=1,  # the device's work is then in the processor time of this thread
            max_num_seqs=live,
            overlap_steps=False,
            num_speculative_tokens=0,  # every step then gives every answer one token
        )
        loop = build_engine(options, lambda done, total: None)
        found = measure(loop, live, arguments.context)
        print(json.dumps({key: round(value, 4) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
