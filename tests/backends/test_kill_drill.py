"""`kill -9` of a busy engine: who was answering hears it at once, everybody else hears nothing."""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sightline.assembly import bundled_model
from sightline.backends.fake import ASSISTANT, USER
from sightline.backends.process import ProcessEngine
from sightline.core.engine_options import EngineOptions, FaultOptions
from sightline.core.errors import Unavailable
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(900)]

NUM_LIVE, NUM_QUEUED = 64, 64
SHORT = SamplingParams(max_tokens=6, temperature=0)
LONG = SamplingParams(max_tokens=400, temperature=0)


def prompt(text: str) -> Prompt:
    return Prompt(token_ids=(USER, *text.encode(), ASSISTANT))


async def collect(engine: ProcessEngine, text: str) -> list[int]:
    deltas = [delta async for delta in engine.generate(prompt(text), SHORT, "r")]
    return [token_id for delta in deltas for token_id in delta.token_ids]


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


async def kill_once(engine: ProcessEngine, number: int) -> float:
    """Kill the engine under a full house; return how long the next one took to be ready."""
    answering = [engine.generate(prompt(f"live {number} {n}"), LONG, "r") for n in range(NUM_LIVE)]
    for stream in answering:
        await anext(stream)
    queued = [
        asyncio.ensure_future(collect(engine, f"queued {number} {n}")) for n in range(NUM_QUEUED)
    ]

    async def all_wait() -> bool:
        return (await engine.stats()).num_waiting == NUM_QUEUED

    async def is_ready() -> bool:
        return engine.is_ready

    await until(all_wait)
    pid = (await engine.stats()).pid
    assert pid is not None
    killed_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    for stream in answering:
        with pytest.raises(Unavailable) as raised:
            async for _ in stream:
                pass
        assert raised.value.code == "engine_restarting"
    assert time.monotonic() - killed_at < 2
    assert not engine.is_ready
    await until(is_ready)
    ready_s = time.monotonic() - killed_at
    answers = await asyncio.gather(*queued)
    assert [len(answer) for answer in answers] == [SHORT.max_tokens] * NUM_QUEUED
    assert (await engine.stats()).num_restarts == number
    return ready_s


async def drill(folder: Path, times: int) -> list[float]:
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
        ready_s = [await kill_once(engine, 1)]
        base = descriptors(), anonymous_bytes()
        ready_s += [await kill_once(engine, number) for number in range(2, times + 1)]
        assert await collect(engine, "canary") == canary
        assert descriptors() <= base[0]
        assert anonymous_bytes() < base[1] + 16 * 2**20
        stats = await engine.stats()
        assert (stats.num_running, stats.num_waiting, stats.kv_slots_used) == (0, 0, 0)
    finally:
        await engine.close()
    return ready_s


def test_a_killed_engine_under_64_live_and_64_queued_streams(tiny_folder: Path) -> None:
    asyncio.run(drill(tiny_folder, 1))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_kills_leave_nothing_behind() -> None:
    bundled = bundled_model()
    assert bundled is not None
    ready_s = asyncio.run(drill(bundled.path, 20))
    assert sorted(ready_s)[len(ready_s) // 2] <= 5, ready_s
