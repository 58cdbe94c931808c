"""`kill -9` of a busy engine: who was answering hears it at once, everybody else hears nothing."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline.backends.fake import ASSISTANT, USER
from sightline.backends.process import ProcessEngine
from sightline.core.engine_options import EngineOptions, FaultOptions
from sightline.core.errors import Unavailable
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams
from sightline.plan import bundled_model

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(900)]

NUM_LIVE, NUM_QUEUED = 64, 64
SHORT = SamplingParams(max_tokens=6, temperature=0)
LONG = SamplingParams(max_tokens=400, temperature=0)


def prompt(text: str) -> Prompt:
    return Prompt(token_ids=(USER, *text.encode(), ASSISTANT))


async def collect(engine: ProcessEngine, text: str) -> list[int]:
    deltas = [delta async for delta in engine.generate(prompt(text), SHORT, "r")]
    return [token_id for delta in deltas for token_id in delta.token_ids]


async def collect_in_the_end(engine: ProcessEngine, text: str) -> list[int]:
    """Ask again after an answer that was cut short, as clients do."""
    while True:
        try:
            return await collect(engine, text)
        except Unavailable as error:
            if error.code != "engine_restarting":
                raise


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(300):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def anonymous_bytes() -> int:
    gc.collect()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


@dataclass(frozen=True, slots=True)
class Kill:
    """What one kill did: seconds until the last error and until ready, and what was left over."""

    slowest_error_s: float
    ready_s: float
    queued_lost: int
    descriptors: int
    anonymous_bytes: int


async def kill_once(engine: ProcessEngine, number: int) -> Kill:
    """Kill the engine under a full house, and wait until all who were queued have their answer."""
    answering = [engine.generate(prompt(f"live {number} {n}"), LONG, "r") for n in range(NUM_LIVE)]
    for stream in answering:
        await anext(stream)
    queued = [
        asyncio.ensure_future(collect(engine, f"queued {number} {n}")) for n in range(NUM_QUEUED)
    ]

    async def all_wait() -> bool:
        return (await engine.stats()).num_waiting == NUM_QUEUED

    await until(all_wait)
    killed_at = time.monotonic()
    await kill(engine)
    for stream in answering:
        with pytest.raises(Unavailable) as raised:
            async for _ in stream:
                pass
        assert raised.value.code == "engine_restarting"
    slowest_error_s = time.monotonic() - killed_at
    assert not engine.is_ready
    await until_ready(engine)
    ready_s = time.monotonic() - killed_at
    answers = await asyncio.gather(*queued)
    return Kill(
        slowest_error_s=slowest_error_s,
        ready_s=ready_s,
        queued_lost=sum(len(answer) != SHORT.max_tokens for answer in answers),
        descriptors=descriptors(),
        anonymous_bytes=anonymous_bytes(),
    )


async def kill_when_ready(engine: ProcessEngine) -> float:
    """Kill an engine that has just become ready; return how long the next one took."""
    killed_at = time.monotonic()
    await kill(engine)
    await until_ready(engine)
    return time.monotonic() - killed_at


async def kill(engine: ProcessEngine) -> None:
    pid = (await engine.stats()).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    async def is_noticed() -> bool:
        return not engine.is_ready

    await until(is_noticed)


async def until_ready(engine: ProcessEngine) -> None:
    async def is_ready() -> bool:
        return engine.is_ready

    await until(is_ready)


@asynccontextmanager
async def full_house(folder: Path) -> AsyncIterator[ProcessEngine]:
    options = EngineOptions(
        model=str(folder),
        num_threads=1,
        max_num_seqs=NUM_LIVE,
        allow_faults=True,
        faults=FaultOptions(step_delay_s=0.01),  # 400 tokens last for long enough
    )
    engine = ProcessEngine(options, hang_timeout_s=60, restart_wait_s=300)
    await engine.start()
    try:
        canary = await collect(engine, "canary")
        yield engine
        assert await collect(engine, "canary") == canary
        stats = await engine.stats()
        assert (stats.num_running, stats.num_waiting, stats.kv_slots_used) == (0, 0, 0)
    finally:
        await engine.close()


async def drill(folder: Path, times: int) -> list[Kill]:
    async with full_house(folder) as engine:
        kills = [await kill_once(engine, number) for number in range(times)]
        assert (await engine.stats()).num_restarts == times
    return kills


def test_a_killed_engine_under_64_live_and_64_queued_streams(tiny_folder: Path) -> None:
    [kill] = asyncio.run(drill(tiny_folder, 1))
    assert kill.slowest_error_s < 2
    assert kill.queued_lost == 0


def test_who_waits_is_served_however_often_the_engine_is_killed_as_soon_as_it_is_ready(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with full_house(tiny_folder) as engine:
            texts = [*map(str, range(100)), *["the same"] * 28]
            waiting = [asyncio.ensure_future(collect_in_the_end(engine, text)) for text in texts]
            for _ in range(3):
                await kill_when_ready(engine)
            answers = await asyncio.gather(*waiting)
            assert [len(answer) for answer in answers] == [SHORT.max_tokens] * len(waiting)

    asyncio.run(main())
    assert caplog.text.count("a new one in 0 s") == 3


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_kills_leave_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    bundled = bundled_model()
    assert bundled is not None
    kills = asyncio.run(drill(bundled.path, 20))
    with capsys.disabled():
        print("\n| kill | last error s | ready s | queued lost | handles | anonymous MiB |")
        print("|---|---|---|---|---|---|")
        for number, kill in enumerate(kills, 1):
            print(
                f"| {number} | {kill.slowest_error_s:.2f} | {kill.ready_s:.2f} "
                f"| {kill.queued_lost} of {NUM_QUEUED} | {kill.descriptors} "
                f"| {kill.anonymous_bytes / 2**20:.1f} |"
            )
    assert max(kill.slowest_error_s for kill in kills) < 2
    assert sum(kill.queued_lost for kill in kills) == 0
    base, last = kills[0], kills[-1]
    assert last.descriptors <= base.descriptors
    assert last.anonymous_bytes < base.anonymous_bytes + 16 * 2**20
    assert max(kill.ready_s for kill in kills) <= 5


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_an_engine_killed_as_soon_as_it_is_ready_takes_no_longer_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundled = bundled_model()
    assert bundled is not None

    async def main() -> list[float]:
        async with full_house(bundled.path) as engine:
            texts = map(str, range(128))
            waiting = [asyncio.ensure_future(collect_in_the_end(engine, text)) for text in texts]
            ready_s = [await kill_when_ready(engine) for _ in range(20)]
            answers = await asyncio.gather(*waiting)
            assert [len(answer) for answer in answers] == [SHORT.max_tokens] * len(waiting)
        return ready_s

    ready_s = asyncio.run(main())
    with capsys.disabled():
        print("\nkilled when ready, ready again after s:", *(f"{s:.2f}" for s in ready_s))
    assert max(ready_s) <= 5
