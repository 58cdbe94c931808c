"""How long a GPU would wait for the host between two decode steps, on a pretended one.

    python benchmarks/device_gap.py [FOLDER] [--live 1,8,64] [--step-ms 5] [--steps 200]
        [--first plain|told|penalised|bound]

The whole engine with the model in FOLDER (the bundled one), whose recorded steps take a given time
on a device that computes nothing. In one run: the next step queued behind the one under way, and,
for comparison, each queued when the one before has ended. The first answer may be told with its
log-probabilities, penalised for what it said, or bound to a grammar.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from sightline.core.engine_options import EngineOptions
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput
from sightline.demo import MODEL_DIR
from sightline.engine import build
from sightline.engine.decode_graphs import DecodeGraphs, Outputs
from sightline.engine.grammar import Grammars
from sightline.engine.loop import EngineLoop
from sightline.engine.runner import ModelRunner
from sightline.models.gpu.gather_attention import GatherBackend
from sightline.models.kv_pool import KVPool
from sightline.models.loading import LoadedModel, load_model
from sightline.models.paged_model import PagedModel
from sightline.models.tokenizer_files import load_tokenizer
from sightline.models.transfer import Fetch

PATIENCE_S = 300
# So many steps belong to the beginning.
WARM = 20
FIRST: dict[str, dict[str, Any]] = {
    "plain": {},
    "told": {"logprobs": 5},
    "penalised": {"presence_penalty": 0.5, "frequency_penalty": 0.5},
    "bound": {"grammar": "%llguidance {}\nstart: /[a-z ]{9999}/"},
}


class Device:
    """Works off what is queued: each replay takes `step_s`."""

    def __init__(self, step_s: float) -> None:
        self.gaps: list[float] = []
        self._step_s = step_s
        self._free_at = 0.0
        self._waited_for: dict[int, float] = {}

    def record(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        def replay() -> None:
            now = time.perf_counter()
            self.gaps.append(max(0.0, now - self._free_at))
            self._free_at = max(self._free_at, now) + self._step_s

        return replay, work()

    def close(self, fetch: Fetch) -> None:
        self._waited_for[id(fetch)] = self._free_at

    def wait(self, fetch: Fetch) -> None:
        until = self._waited_for.pop(id(fetch))
        while (rest := until - time.perf_counter()) > 0:
            time.sleep(max(0.0, min(rest, 1e-3) - 2e-4))


def engine(folder: Path, live: int, steps: int, device: Device) -> EngineLoop:
    loaded = load_model(folder, device="cpu", dtype="float32")
    model = loaded.model
    assert isinstance(model, PagedModel)
    model.attention = attention = GatherBackend()

    def record(_: EngineOptions, __: LoadedModel, pool: KVPool, max_slots: int) -> DecodeGraphs:
        own = model.allocate_pool(pool.num_blocks + 1, pool.block_size)
        pool.keys, pool.values = own.keys, own.values
        nobodys = pool.num_blocks - 1
        graphs = DecodeGraphs(
            model,
            pool,
            attention,
            device,
            max_seqs=live,
            max_slots=max_slots,
            nobodys_block=nobodys,
        )
        graphs.record_all()
        return graphs

    slot_bytes = model.allocate_pool(1, 16).size_bytes // 16
    options = EngineOptions(
        model=str(folder),
        max_num_seqs=live,
        overlap_steps=True,
        max_model_len=steps + 64,
        kv_cache_memory=(live + 1) * (steps + 64) * slot_bytes,
        prefix_caching=False,
    )
    with patch.object(build, "record_decodes", record):
        return build.assemble_engine(
            options,
            loaded,
            num_tokens=loaded.description.vocab_size,
            grammars=Grammars(load_tokenizer(folder), (0,), num_threads=1),
        )


def gaps(
    folder: Path, live: int, steps: int, step_s: float, first: str, *, behind: bool
) -> list[float]:
    device = Device(step_s)
    ended = threading.Semaphore(0)

    def deliver(output: StepOutput) -> None:
        for delta in output.deltas.values():
            if delta.finish_reason is not None:
                ended.release()

    with (
        patch.object(Fetch, "close", lambda fetch: device.close(fetch)),
        patch.object(Fetch, "wait", lambda fetch: device.wait(fetch)),
        patch.object(
            ModelRunner, "begin_behind", ModelRunner.begin_behind if behind else lambda *_: None
        ),
    ):
        loop = engine(folder, live, steps, device)
        device.gaps.clear()
        for number in range(live):
            own = {} if number else FIRST[first]
            params = SamplingParams(max_tokens=steps, temperature=0, **own)
            ids = tuple((31 * slot + 7 * number) % 200 for slot in range(4))
            asked = Generate(
                request_id=str(number), token_ids=ids, spans=(), cache_salt=b"", params=params
            )
            loop.submit(asked)
        thread = threading.Thread(target=loop.run, args=(deliver,))
        thread.start()
        for _ in range(live):
            assert ended.acquire(timeout=PATIENCE_S)
        loop.stop()
        thread.join()
    return device.gaps[WARM:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=MODEL_DIR)
    parser.add_argument("--live", default="1,8,64")
    parser.add_argument("--step-ms", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--first", choices=FIRST, default="plain")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| live | gap, one after another | gap, queued behind |\n|---|---|---|")
    for live in map(int, arguments.live.split(",")):
        found = [
            gaps(
                arguments.folder,
                live,
                arguments.steps,
                arguments.step_ms / 1e3,
                arguments.first,
                behind=behind,
            )
            for behind in (False, True)
        ]
        cells = (f"{1e3 * statistics.mean(g):.2f} ms" for g in found)
        print(f"| {live} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
