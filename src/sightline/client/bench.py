"""Putting load on an OpenAI-compatible server and timing its answers.

Closed loop: so many askers, each with one question open at a time. Open loop: questions come at
random moments at a given rate, whether or not earlier ones are answered, as from many people.
Times are what a reader sees: to the first text, between two pieces of text, to the end. Tokens
come from the server's own `usage`, never from counting pieces.
"""

import asyncio
import io
import json
import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import httpx2

from sightline.client import wire
from sightline.client.errors import ClientError
from sightline.client.wire import EventParser, image_part, text_part

CONNECT_TIMEOUT_S = 10.0
PERCENTILES = (50, 90, 95, 99)
# No server makes tokens this fast: such gaps mean that pieces waited for the client to read them.
BUNCHED_S = 2e-4
WORDS = """
    river stone light north paper garden winter music bridge window silver morning engine forest
    letter market island summer yellow circle mountain kitchen village shadow number station harbor
    answer season picture
""".split()  # noqa: SIM905

Images = Literal["none", "distinct", "same"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What each question is like. Equal `key` and number make equal questions."""

    model: str
    num_words: int = 128
    max_tokens: int = 64
    images: Images = "none"
    image_size: int = 448
    key: str = "0"
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of the body


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many questions, and how they come: `concurrency` askers, or `rate` per second."""

    num_requests: int
    concurrency: int = 1
    rate: float | None = None

    @property
    def label(self) -> str:
        return f"C = {self.concurrency}" if self.rate is None else f"{self.rate:g}/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One answer, in seconds from the question; or why there was none."""

    arrivals: tuple[float, ...] = ()
    end_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What one load gave. Percentiles are in milliseconds, by name: ttft, itl, tpot, e2e."""

    load: Load
    wall_s: float
    num_errors: int
    first_error: str | None
    num_short: int
    tokens_per_s: float
    requests_per_s: float
    prompt_tokens: float
    bunched: float
    milliseconds: dict[str, dict[str, float | None]]


def measure(
    url: str,
    work: Work,
    loads: list[Load],
    *,
    api_key: str | None = None,
    timeout_s: float = 300.0,
    on_report: Callable[[LoadReport], None] = lambda report: None,
) -> list[LoadReport]:
    """Run every load in turn, each with new questions. `on_report` hears of each as it ends."""
    return asyncio.run(
        _measure(url, work, loads, api_key=api_key, timeout_s=timeout_s, on_report=on_report)
    )


async def _measure(
    url: str,
    work: Work,
    loads: list[Load],
    *,
    api_key: str | None,
    timeout_s: float,
    on_report: Callable[[LoadReport], None],
) -> list[LoadReport]:
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if api_key:
        headers["authorization"] = f"Bearer {api_key}"
    reports = []
    async with httpx2.AsyncClient(
        base_url=url.rstrip("/").removesuffix("/v1"),
        headers=headers,
        timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        trust_env=False,
    ) as http:
        for number, load in enumerate(loads):
            fresh = replace(work, key=f"{work.key}/{number}")
            # Bodies are made before the clock runs: pictures take time to compress.
            bodies = [make_body(fresh, i) for i in range(load.num_requests)]
            started = time.perf_counter()
            timings = await (_open if load.rate else _closed)(http, load, bodies)
            report = summarise(load, work, timings, time.perf_counter() - started)
            on_report(report)
            reports.append(report)
    return reports


async def _closed(http: httpx2.AsyncClient, load: Load, bodies: list[bytes]) -> list[Timing]:
    waiting: Iterator[bytes] = iter(bodies)
    timings: list[Timing] = []

    async def ask_on() -> None:
        for body in waiting:
            timings.append(await _ask(http, body))

    await asyncio.gather(*(ask_on() for _ in range(load.concurrency)))
    return timings


async def _open(http: httpx2.AsyncClient, load: Load, bodies: list[bytes]) -> list[Timing]:
    assert load.rate is not None
    dice = random.Random(load.num_requests)
    tasks = []
    for body in bodies:
        tasks.append(asyncio.create_task(_ask(http, body)))
        await asyncio.sleep(dice.expovariate(load.rate))
    return await asyncio.gather(*tasks)


async def _ask(http: httpx2.AsyncClient, body: bytes) -> Timing:
    started = time.perf_counter()
    arrivals: list[float] = []
    usage = None
    try:
        async with http.stream("POST", "/v1/chat/completions", content=body) as response:
            if response.status_code != 200:
                raise wire.parse_error(response.status_code, await response.aread())
            if response.headers.get("content-type", "").startswith("application/json"):
                # A server that does not stream: its first text is all of it.
                usage = wire.parse_answer(await response.aread()).usage
                arrivals.append(time.perf_counter() - started)
            else:
                parser = EventParser()
                async for data in response.aiter_bytes():
                    now = time.perf_counter() - started
                    for event in parser.feed(data):
                        if event == wire.DONE:
                            continue
                        chunk = wire.parse_chunk(event)
                        usage = chunk.usage or usage
                        if chunk.text:
                            arrivals.append(now)
    except (ClientError, httpx2.HTTPError) as error:
        return Timing(error=str(error) or type(error).__name__)
    if usage is None:
        return Timing(error="the answer came without usage")
    return Timing(
        arrivals=tuple(arrivals),
        end_s=time.perf_counter() - started,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def make_body(work: Work, number: int) -> bytes:
    """Return one question; the answer is asked for with its usage, greedy."""
    dice = random.Random(f"{work.key}/{number}")
    parts = [text_part(" ".join(dice.choices(WORDS, k=work.num_words)))]
    if work.images != "none":
        drawn = 0 if work.images == "same" else dice.getrandbits(32)
        parts.insert(0, image_part(make_picture(drawn, work.image_size)))
    body = wire.chat_body(
        [{"role": "user", "content": parts}],
        model=work.model,
        stream=True,
        max_tokens=work.max_tokens,
        temperature=0.0,
    )
    return json.dumps(json.loads(body) | work.extra).encode() if work.extra else body


def make_picture(seed: int, size: int) -> str:
    """Return a data URL of a smooth random JPEG; smooth, so that it weighs what a photo does."""
    from PIL import Image

    rough = Image.frombytes("RGB", (28, 28), random.Random(seed).randbytes(28 * 28 * 3))
    file = io.BytesIO()
    rough.resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()


def summarise(load: Load, work: Work, timings: list[Timing], wall_s: float) -> LoadReport:
    """Turn the answers of one load into its report."""
    good = [timing for timing in timings if timing.error is None]
    gaps = [later - earlier for timing in good for earlier, later in pairwise(timing.arrivals)]
    samples = {
        "ttft": [timing.arrivals[0] for timing in good if timing.arrivals],
        "itl": gaps,
        "tpot": [
            (timing.arrivals[-1] - timing.arrivals[0]) / (timing.completion_tokens - 1)
            for timing in good
            if timing.completion_tokens > 1 and len(timing.arrivals) > 1
        ],
        "e2e": [timing.end_s for timing in good],
    }
    return LoadReport(
        load=load,
        wall_s=wall_s,
        num_errors=len(timings) - len(good),
        first_error=next((timing.error for timing in timings if timing.error), None),
        num_short=sum(timing.completion_tokens < work.max_tokens for timing in good),
        tokens_per_s=sum(timing.completion_tokens for timing in good) / wall_s,
        requests_per_s=len(good) / wall_s,
        prompt_tokens=sum(timing.prompt_tokens for timing in good) / max(1, len(good)),
        bunched=sum(gap < BUNCHED_S for gap in gaps) / max(1, len(gaps)),
        milliseconds={
            name: {f"p{p}": percentile(values, p) for p in PERCENTILES}
            for name, values in samples.items()
        },
    )


def percentile(seconds: list[float], percent: int) -> float | None:
    """Return the percentile in milliseconds, between the two nearest samples; None of none."""
    if not seconds:
        return None
    ordered = sorted(seconds)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return 1e3 * (ordered[low] + (ordered[high] - ordered[low]) * (place - low))
