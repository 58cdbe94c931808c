"""Does a long prompt hold up the answers of others? Inter-token times before and during it.

    python benchmarks/long_prompt.py FOLDER [--prompt 16000] [--others 8] [--threads N]

The whole engine loop with a model in FOLDER, whose context must be long enough. First `--others`
answers run alone, then one more prompt of `--prompt` tokens comes. A step computes one chunk of it
beside a token of everybody, so the longest gap between two tokens should be the longest step.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from sightline.core.engine_options import EngineOptions
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput
from sightline.engine.build import assemble_engine
from sightline.engine.kv_budget import CPU_TOKENS
from sightline.engine.loop import EngineLoop
from sightline.models.loading import load_model

STEPS_BEFORE = 30
BLOCK = 16
LONG = "long"


class Gaps:
    """Notes the time between two tokens of each other answer; sends the long prompt when due."""

    def __init__(self, loop: EngineLoop, others: int, long: Generate) -> None:
        self.before: list[float] = []
        self.during: list[float] = []
        self.steps: list[float] = []
        self._loop, self._others, self._long = loop, others, long
        self._last: dict[str, float] = {}
        self._num_before = 0
        self._last_step = time.perf_counter()
        self._is_sent = False

    def __call__(self, output: StepOutput) -> None:
        now = time.perf_counter()
        gaps = self.during if self._is_sent else self.before
        everybody = len(self._last) == self._others
        for request_id in output.deltas:
            if request_id != LONG and everybody:
                gaps.append(now - self._last[request_id])
            if request_id != LONG:
                self._last[request_id] = now
        if self._is_sent:
            self.steps.append(now - self._last_step)
        self._last_step = now
        if LONG in output.deltas:
            self._loop.stop()
        elif everybody and not self._is_sent:
            self._num_before += 1
            if self._num_before == STEPS_BEFORE:
                self._is_sent = True
                self._loop.submit(self._long)


def asked(request_id: str, length: int, max_tokens: int) -> Generate:
    ids = tuple((31 * slot + 7 * len(request_id)) % 200 for slot in range(length))
    params = SamplingParams(max_tokens=max_tokens, temperature=0)
    return Generate(request_id=request_id, token_ids=ids, spans=(), cache_salt=b"", params=params)


def measure(folder: Path, prompt: int, others: int, threads: int) -> dict[str, float]:
    num_steps = STEPS_BEFORE + 2 * (prompt // (CPU_TOKENS - others) + 2) + others
    room = 32 + num_steps
    loaded = load_model(folder, device="cpu", packed=True)
    one_block = loaded.model.allocate_pool(1, BLOCK).size_bytes
    num_blocks = -(-(prompt + 8) // BLOCK) + others * -(-room // BLOCK) + others + 8
    options = EngineOptions(
        model=str(folder),
        device="cpu",
        num_threads=threads,
        max_model_len=prompt + 8,
        block_size=BLOCK,
        kv_cache_memory=num_blocks * one_block,
        overlap_steps=False,
    )
    loop = assemble_engine(options, loaded, num_tokens=loaded.description.vocab_size)
    for number in range(others):
        loop.submit(asked(f"other {'x' * number}", 16 + number, num_steps))
    gaps = Gaps(loop, others, asked(LONG, prompt, 2))
    loop.run(gaps)
    return {
        "prompt": prompt,
        "others": others,
        "chunks": len(gaps.steps),
        "gap_before_ms": 1e3 * statistics.median(gaps.before),
        "gap_during_ms": 1e3 * statistics.median(gaps.during),
        "longest_gap_ms": 1e3 * max(gaps.during),
        "longest_step_ms": 1e3 * max(gaps.steps),
        "gaps_over_one_chunk": sum(gap > max(gaps.steps) for gap in gaps.during),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompt", type=int, default=16_000)
    parser.add_argument("--others", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = measure(arguments.folder, arguments.prompt, arguments.others, arguments.threads)
    print(json.dumps({key: round(value, 2) for key, value in found.items()}), flush=True)


if __name__ == "__main__":
    main()
