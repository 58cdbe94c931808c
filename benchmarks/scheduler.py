"""What deciding costs: the scheduler's time per step against the number of live sequences.

    python benchmarks/scheduler.py [--live 1,16,64,256] [--context 500]

No model and no torch: each step is planned, every sequence is given a token, and the step is
settled. Prints the processor time per step, so that a busy machine says the same.
"""

import argparse
import json
import statistics
import time

from sightline.core.sampling import SamplingParams
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence

BLOCK = 16
STEPS = 100
ROOM = 2000  # tokens of an answer: the first ones run long before the last prompt is done


def one_step(scheduler: Scheduler) -> int:
    """Plan a step, give each sequence its token, settle; return how many tokens that were."""
    plan = scheduler.plan()
    for chunk in plan.chunks:
        if chunk.samples:
            chunk.sequence.num_promised = 0
            chunk.sequence.answer.append(7)
        scheduler.settle(chunk)
    return len(plan.chunks)


def measure(live: int, context: int) -> dict[str, float]:
    slots = context + ROOM
    scheduler = Scheduler(
        num_blocks=live * (slots // BLOCK + 2),
        block_size=BLOCK,
        max_num_seqs=live,
        max_num_batched_tokens=512,
        embedding_cache_bytes=1,
        row_bytes=1,
    )
    for number in range(live):
        scheduler.add(
            Sequence(
                request_id=str(number),
                prompt=(number, *range(context - 1)),
                images=(),
                params=SamplingParams(max_tokens=ROOM),
                seed=0,
                max_model_len=slots,
                arrived_at=0.0,
            )
        )
    while one_step(scheduler) < live:  # prompts first, in chunks
        pass
    times = []
    for _ in range(STEPS):
        began = time.process_time()
        one_step(scheduler)
        times.append(1e3 * (time.process_time() - began))
    return {"live": live, "median_ms": statistics.median(times), "worst_ms": max(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", default="1,16,64,256")
    parser.add_argument("--context", type=int, default=500)
    arguments = parser.parse_args()
    for live in map(int, arguments.live.split(",")):
        found = measure(live, arguments.context)
        print(json.dumps({key: round(value, 4) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
