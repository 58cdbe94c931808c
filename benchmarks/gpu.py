"""GLM-4V-9B in its real shapes with random weights: speed and memory beside the roofline.

    python benchmarks/gpu.py [--device cuda:0] [--layers N] [--json FILE] [--markdown FILE]
    python benchmarks/gpu.py --quantization int4                   # or int8
    python benchmarks/gpu.py --device cpu --preset tiny --quick    # the same code without a GPU
    python benchmarks/gpu.py --without-kernels own                 # what they bring

Everything goes through the engine's own loop, as requests do. The roofline is computed from a copy
and a product that are measured on the same device; the baseline is transformers' `GlmForCausalLM`
in the same shapes, one request at a time, as blog posts run it. Greedy, so that every step is a
sampled one; prompts are random ids, so that nothing is found in a cache.
"""

import argparse
import gc
import json
import logging
import platform
import random
import statistics
import sys
import threading
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import gpu_attempts
import gpu_baseline
import torch
from gpu_model import (
    PRESETS,
    Roofline,
    best_of,
    build,
    measure_machine,
    picture_size,
    quantize_layers,
    wait_for,
)

import sightline
from sightline.backends.fake import TOKENIZER_FILE
from sightline.core.engine_options import EngineOptions, KernelName
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput, WireSpan
from sightline.engine.build import assemble_engine
from sightline.engine.kv_budget import GPU_TOKENS
from sightline.engine.loop import EngineLoop
from sightline.models.device import find_device
from sightline.models.glm_4v_9b import Glm4v
from sightline.models.gpu import trials
from sightline.models.loading import DTYPES, LoadedModel
from sightline.models.quantization import choose_quantization

Request = tuple[Generate, tuple[bytes, ...]]
"""What is asked, and the pixels of its picture, if it has one."""

GB = 1e9
PATIENCE_S = 600
QUESTION = 18  # tokens around a picture
# What is measured once, and whether less of it is better.
FIGURES = {
    "encode_ms": ("image encode, ms", True),
    "first_token_ms": ("first token with an image, ms", True),
    "prefill_tokens_s": ("prefill, tokens/s", False),
    "images_s": ("images/s, to the first token", False),
}


class Desk:
    """Asks an engine on a thread of its own and notes when which tokens come."""

    def __init__(self, loop: EngineLoop, loaded: LoadedModel) -> None:
        self.loop = loop
        self.side, self.rows = picture_size(loaded.description)
        self._dice = random.Random(0)
        self._vocabulary = loaded.description.vocab_size - 16
        self._arrivals: dict[str, list[float]] = defaultdict(list)
        self._ended: dict[str, str] = {}
        self._news = threading.Condition()
        self._thread = threading.Thread(target=loop.run, args=(self._deliver,))
        self._number = 0

    def __enter__(self) -> "Desk":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.stop()
        self._thread.join()

    def request(self, *, text: int, max_tokens: int, picture: bool = False) -> Request:
        """Return a prompt of `text` random tokens, behind a new picture if there is one.

        Made before the clock starts: to draw a picture takes as long as some of what is measured.
        """
        self._number += 1
        name = f"r{self._number}"
        ids = [self._dice.randrange(16, self._vocabulary) for _ in range(text)]
        spans: tuple[WireSpan, ...] = ()
        pixels: tuple[bytes, ...] = ()
        if picture:
            span = WireSpan(
                start=2,
                length=self.rows,
                width=self.side,
                height=self.side,
                digest=name.encode().ljust(32),
                original_width=self.side,
                original_height=self.side,
            )
            ids[2:2] = [0] * self.rows
            spans, pixels = (span,), (self._dice.randbytes(3 * self.side**2),)
        params = SamplingParams(max_tokens=max_tokens, temperature=0.0)
        message = Generate(
            request_id=name, token_ids=tuple(ids), spans=spans, params=params, cache_salt=b""
        )
        return message, pixels

    def ask(self, *requests: Request) -> list[str]:
        """Submit them, and return their names."""
        for message, pixels in requests:
            self.loop.submit(message, pixels)
        return [message.request_id for message, _ in requests]

    def wait(self, *names: str) -> None:
        with self._news:
            if not self._news.wait_for(lambda: self._ended.keys() >= {*names}, PATIENCE_S):
                raise TimeoutError("the engine gave no answer")
        for name in names:
            if self._ended[name] not in ("length", "stop"):
                raise RuntimeError(f"a request failed: {self._ended[name]}")

    def arrivals(self, name: str) -> list[float]:
        return self._arrivals[name]

    def _deliver(self, output: StepOutput) -> None:
        now = time.perf_counter()
        with self._news:
            for name, delta in output.deltas.items():
                self._arrivals[name] += [now] * len(delta.token_ids)
                if delta.finish_reason is not None:
                    self._ended[name] = delta.finish_reason
            for failure in output.failed:
                self._ended[failure.request_id] = failure.code
            self._news.notify_all()


def first_token_s(desk: Desk, *, text: int, picture: bool, rounds: int) -> float:
    """Return the median time to the first token of a lone request."""
    times = []
    for number in range(rounds + 1):
        request = desk.request(text=text, max_tokens=1, picture=picture)
        began = time.perf_counter()
        (name,) = desk.ask(request)
        desk.wait(name)
        if number:  # the first one warms up
            times.append(desk.arrivals(name)[0] - began)
    return statistics.median(times)


def decode(desk: Desk, *, batch: int, text: int, max_tokens: int) -> dict[str, float]:
    """Return tokens per second while all of a batch decode, and the host's gap between steps."""
    names = desk.ask(*(desk.request(text=text, max_tokens=max_tokens) for _ in range(batch)))
    before = desk.loop.stats.idle_gap_s
    desk.wait(*names)
    after = desk.loop.stats.idle_gap_s
    start = max(desk.arrivals(name)[0] for name in names)
    end = min(desk.arrivals(name)[-1] for name in names)
    tokens = sum(start < when <= end for name in names for when in desk.arrivals(name))
    steps = sum(after.counts) - sum(before.counts)
    return {
        "tokens_s": tokens / (end - start) if end > start else float("nan"),
        "idle_gap_ms": 1e3 * (after.total - before.total) / max(steps, 1),
    }


def images_s(desk: Desk, *, number: int) -> float:
    requests = [desk.request(text=QUESTION, max_tokens=1, picture=True) for _ in range(number)]
    began = time.perf_counter()
    desk.wait(*desk.ask(*requests))
    return number / (time.perf_counter() - began)


def measure(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Put every figure into `result` as soon as it is known."""
    device = find_device(arguments.device)
    dtype = DTYPES[arguments.dtype]
    is_gpu = device.type == "cuda"
    trials.prepare(arguments.without_kernels, partial(_note_trial, arguments.trials))
    if is_gpu:
        torch.cuda.set_device(device)
    machine = measure_machine(device, dtype)
    config, loaded = build(arguments.preset, arguments.layers, device, dtype)
    quantization = choose_quantization(arguments.quantization, None)
    roofline = Roofline(config, loaded, machine, quantization)
    quantize_layers(cast(Glm4v, loaded.model), quantization)
    weights = torch.cuda.memory_allocated(device) if is_gpu else 0
    if is_gpu:  # what was measured, and floats that were quantised, are gone
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    most = max(arguments.batches)
    slots = most * (arguments.context + arguments.tokens + 16) + 16_384
    slot_bytes = loaded.model.allocate_pool(1, 16).size_bytes // 16
    options = EngineOptions(
        model=str(TOKENIZER_FILE.parent),
        attention_backend=arguments.attention_backend,
        cuda_graphs=not arguments.no_graphs,
        kv_cache_memory=slots * slot_bytes,
        max_num_seqs=most,
        prefix_caching=False,
    )
    began = time.perf_counter()
    loop = assemble_engine(options, loaded, num_tokens=loaded.description.vocab_size)
    start_s = time.perf_counter() - began
    side, rows = picture_size(loaded.description)
    pixels = torch.randint(0, 256, (1, side, side, 3), dtype=torch.uint8, device=device)
    with torch.inference_mode():
        encode = partial(loaded.model.encode_images, pixels)
        encode_s = best_of(encode, device, rounds=arguments.rounds)
    result |= {
        "sightline": sightline.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if is_gpu else platform.processor() or "cpu",
        "dtype": arguments.dtype,
        "quantization": str(quantization),
        "preset": arguments.preset,
        "layers": arguments.layers,
        "parameters": loaded.num_parameters,
        "without_kernels": arguments.without_kernels,
        "attention": getattr(getattr(loaded.model, "attention", None), "name", "cpu"),
        "copy_gb_s": machine.copy_bytes_s / GB,
        "matmul_tflops": machine.matmul_flops_s / 1e12,
        "engine_start_s": start_s,
        "encode_ms": {"measured": 1e3 * encode_s, "roofline": 1e3 * roofline.encode_s()},
    }
    long = min(config.max_positions - 64, 8000)
    with Desk(loop, loaded) as desk:
        with_picture = first_token_s(desk, text=QUESTION, picture=True, rounds=arguments.rounds)
        least = roofline.encode_s() + roofline.prefill_s(rows + QUESTION)
        result["first_token_ms"] = {"measured": 1e3 * with_picture, "roofline": 1e3 * least}
        prefill_s = first_token_s(desk, text=long, picture=False, rounds=arguments.rounds)
        result["prefill_tokens_s"] = {
            "measured": long / prefill_s,
            "roofline": long / roofline.prefill_s(long),
        }
        result["images_s"] = {
            "measured": images_s(desk, number=arguments.pictures),
            "roofline": 1 / least,
        }
        logging.info("%s", {key: result[key] for key in FIGURES})
        result["decode"] = []
        for batch in arguments.batches:
            # Warms up, until all decode together: steps of that size may have to be recorded.
            enough = 4 + batch * arguments.context // GPU_TOKENS
            decode(desk, batch=batch, text=arguments.context, max_tokens=enough)
            found = decode(desk, batch=batch, text=arguments.context, max_tokens=arguments.tokens)
            step_s = roofline.step_s(batch, arguments.context + arguments.tokens // 2)
            result["decode"].append({"batch": batch, "roofline": batch / step_s} | found)
            logging.info("%s", result["decode"][-1])
    if is_gpu:
        wait_for(device)
        kv = slots * slot_bytes
        result["memory_gb"] = {
            "weights": weights / GB,
            "kv_pool": kv / GB,
            "most_besides_kv": (torch.cuda.max_memory_allocated(device) - kv) / GB,
            "reserved": torch.cuda.memory_reserved(device) / GB,
        }
    del loop, desk, loaded, encode, pixels
    gc.collect()
    if is_gpu:
        torch.cuda.empty_cache()
    if not arguments.no_baseline and gpu_baseline.is_there():
        result["baseline"] = gpu_baseline.measure(
            config,
            device,
            dtype,
            rows=rows + QUESTION,
            context=arguments.context,
            max_tokens=arguments.tokens,
            rounds=arguments.rounds,
        )


def _note_trial(file: Path, name: KernelName | None) -> None:
    if name is not None:
        logging.info("on trial: %s", name)
    file.write_text(name or "")


def as_markdown(result: dict[str, Any]) -> str:
    """Return a table of what was measured; nothing if the engine did not even start."""
    if "parameters" not in result:
        return ""
    lines = [
        f"GLM-4V-9B ({result['preset']}, {result['parameters']:,} random parameters, "
        f"{result['dtype']}, quantisation {result['quantization']}), "
        f"attention by {result['attention']}, {_left_out(result)}torch {result['torch']}, "
        f"{result['device']}: copy {result['copy_gb_s']:.0f} GB/s, product "
        f"{result['matmul_tflops']:.1f} TFLOP/s",
        "",
        "| what | measured | roofline | share |",
        "|---|---|---|---|",
    ]

    def row(what: str, measured: float, least: float, *, is_time: bool, digits: int = 1) -> None:
        share = least / measured if is_time else measured / least
        lines.append(f"| {what} | {measured:,.{digits}f} | {least:,.{digits}f} | {share:.0%} |")

    for key, (what, is_time) in FIGURES.items():
        if key in result:
            row(what, result[key]["measured"], result[key]["roofline"], is_time=is_time)
    for found in result.get("decode", ()):
        what = f"decode at batch {found['batch']}, tokens/s (gap {found['idle_gap_ms']:.2f} ms)"
        row(what, found["tokens_s"], found["roofline"], is_time=False)
    if memory := result.get("memory_gb"):
        lines += [
            "",
            f"Memory: weights {memory['weights']:.2f} GB, most besides KV "
            f"{memory['most_besides_kv']:.2f} GB, KV pool {memory['kv_pool']:.2f} GB.",
        ]
    if baseline := result.get("baseline"):
        lines += [
            "",
            f"Baseline, {baseline['what']}: first token of the same rows without encoding "
            f"{baseline['first_token_ms']:.1f} ms, decode {baseline['tokens_s']:.1f} tokens/s.",
        ]
    return "\n".join(lines) + "\n"


def _left_out(result: dict[str, Any]) -> str:
    names = ", ".join(result["without_kernels"])
    return names and f"without {names} kernels, "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="bfloat16", choices=sorted(DTYPES))
    parser.add_argument("--quantization", default="none", choices=["none", "int8", "int4"])
    parser.add_argument("--preset", default="full", choices=sorted(PRESETS))
    parser.add_argument("--layers", type=int, help="cut trunk and tower to so many layers")
    parser.add_argument("--batches", default="1,8,32,64,128", help="batch sizes of the decodes")
    parser.add_argument("--context", type=int, default=512, help="tokens before the answer")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of an answer")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--attention-backend", default="auto")
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument(
        "--without-kernels",
        action="append",
        default=[],
        choices=get_args(KernelName),
        help="leave out what would be tried, by name; what the process dies of is left out anyway",
    )
    parser.add_argument(
        "--trials", type=Path, help="measure in this process; the file says what is being tried"
    )
    parser.add_argument("--no-baseline", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few and short answers")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    if arguments.trials is None:
        sys.exit(gpu_attempts.attempt(__file__, sys.argv[1:]))
    arguments.batches = [int(batch) for batch in arguments.batches.split(",")]
    if arguments.quick:
        arguments.batches, arguments.context, arguments.tokens = [1, 4], 32, 8
        arguments.pictures, arguments.rounds = 2, 1
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    result: dict[str, Any] = {}
    try:
        measure(arguments, result)
    finally:  # what is known is told, whatever became of the rest
        text = as_markdown(result)
        print(text)
        print(json.dumps(result))
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        if arguments.markdown:
            arguments.markdown.write_text(text)


if __name__ == "__main__":
    main()
