"""Workers that are killed, stopped, starved or no longer wanted; nothing may leak or hang."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import picture_files as files
import pytest

from sightline.core.errors import RequestError, Unavailable
from sightline.core.image_policy import SquareImagePolicy
from sightline.core.limits import Limits
from sightline.media.decode_process import DecodeProcess
from sightline.media.decoder import DecodePool

SQUARE = SquareImagePolicy(size=16, num_tokens=18)
PATIENT = Limits(decode_timeout_s=60)
ON_LINUX = sys.platform.startswith("linux")


async def until(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 -- other processes set no event
            await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def pool_of(limits: Limits) -> DecodePool:
    pool = DecodePool(limits)
    pool.start()
    await until(lambda: len(pool.pids) == limits.decode_workers)
    return pool


async def stop(pid: int) -> None:
    """Stop a process, so that whatever it is given next takes for ever."""
    os.kill(pid, signal.SIGSTOP)


def test_a_worker_that_is_killed_meanwhile_costs_its_picture_only():
    async def run():
        pool = await pool_of(Limits(decode_workers=1, decode_timeout_s=60))
        [pid] = pool.pids
        await stop(pid)
        task = asyncio.create_task(pool.decode(files.PNG, SQUARE))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RequestError) as caught:
            await task
        assert caught.value.code == "image_parse_error"
        assert len((await pool.decode(files.PNG, SQUARE)).pixels) == 16 * 16 * 3
        assert pid not in pool.pids
        await pool.close()

    asyncio.run(run())


def test_a_worker_that_dies_idle_is_replaced_and_no_picture_notices():
    async def run():
        pool = await pool_of(Limits(decode_workers=1, decode_timeout_s=60))
        [pid] = pool.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.pids and pid not in pool.pids)
        await pool.decode(files.PNG, SQUARE)
        await pool.close()

    asyncio.run(run())


def test_a_worker_that_hangs_is_given_up_in_time_while_the_other_works():
    async def run():
        pool = await pool_of(Limits(decode_workers=2, decode_timeout_s=0.5))
        hung, *_ = pool.pids
        await stop(hung)
        start = time.monotonic()
        results = await asyncio.gather(
            pool.decode(files.PNG, SQUARE), pool.decode(files.PNG, SQUARE), return_exceptions=True
        )
        assert time.monotonic() - start < 6
        errors = [result for result in results if isinstance(result, RequestError)]
        assert "Decoding the image took longer than 0.5 s." in [e.message for e in errors]
        await until(lambda: not is_running(hung) and len(pool.pids) == 2)
        await pool.close()

    asyncio.run(run())


@pytest.mark.skipif(not ON_LINUX, reason="reads /proc")
def test_a_worker_over_its_memory_is_killed():
    async def run():
        worker = await DecodeProcess.start(Limits(decode_rss_bytes=1 << 20, decode_timeout_s=60))
        await stop(worker.pid)  # so that the watch sees it at work
        with pytest.raises(RequestError) as caught:
            await worker.decode(files.PNG, SQUARE)
        assert caught.value.message == "Decoding the image took more than 1 MiB of memory."
        assert not worker.is_alive
        await worker.end()

    asyncio.run(run())


@pytest.mark.skipif(not ON_LINUX, reason="macOS does not limit address space")
def test_a_picture_that_needs_too_much_address_space_is_refused():
    async def run():
        worker = await DecodeProcess.start(
            Limits(decode_address_bytes=200 << 20, decode_timeout_s=60)
        )
        white = files.encode(files.Image.new("1", (6000, 6000), 1), "PNG")
        with pytest.raises(RequestError) as caught:
            await worker.decode(white, SQUARE)
        assert caught.value.code == "image_parse_error"
        assert (await worker.decode(files.PNG, SQUARE)).width == files.WIDTH
        await worker.end()

    asyncio.run(run())


def test_a_picture_nobody_wants_any_more_is_dropped_at_once():
    async def run():
        pool = await pool_of(Limits(decode_workers=1, decode_timeout_s=60))
        [pid] = pool.pids
        await stop(pid)
        task = asyncio.create_task(pool.decode(files.PNG, SQUARE))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await pool.decode(files.PNG, SQUARE)
        assert not is_running(pid)
        await pool.close()

    asyncio.run(run())


def test_who_waits_for_a_worker_too_long_is_told_to_come_back():
    async def run():
        limits = Limits(decode_workers=1, decode_timeout_s=60, queue_timeout_s=0.05)
        pool = await pool_of(limits)
        [pid] = pool.pids
        await stop(pid)
        busy = asyncio.create_task(pool.decode(files.PNG, SQUARE))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as caught:
            await pool.decode(files.PNG, SQUARE)
        assert caught.value.code == "overloaded"
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
        await pool.close()

    asyncio.run(run())


def test_who_waits_and_leaves_costs_no_worker():
    async def run():
        pool = await pool_of(Limits(decode_workers=1, decode_timeout_s=60))
        pids = pool.pids
        tasks = [asyncio.create_task(pool.decode(files.PNG, SQUARE)) for _ in range(5)]
        for task in tasks:
            task.cancel()  # before any of them has begun
        await asyncio.gather(*tasks, return_exceptions=True)
        await pool.decode(files.PNG, SQUARE)
        assert pool.pids == pids
        await pool.close()

    asyncio.run(run())


def num_open_files() -> int:
    return len(os.listdir("/proc/self/fd" if ON_LINUX else "/dev/fd"))


def test_closing_leaves_no_process_and_no_open_file():
    async def run():
        await asyncio.sleep(0)
        before = num_open_files()
        pool = await pool_of(PATIENT)
        pids = pool.pids
        [stopped, *_] = pids
        await stop(stopped)
        busy = asyncio.create_task(pool.decode(files.PNG, SQUARE))
        await asyncio.sleep(0.01)
        await pool.close()
        await asyncio.gather(busy, return_exceptions=True)
        gc.collect()
        await until(lambda: num_open_files() <= before)
        assert not any(map(is_running, pids))
        with pytest.raises(Unavailable):
            await pool.decode(files.PNG, SQUARE)

    asyncio.run(run())


PARENT = """
import asyncio
from sightline.core.limits import Limits
from sightline.media.decoder import DecodePool

async def main():
    pool = DecodePool(Limits(decode_workers=1))
    pool.start()
    while not pool.pids:
        await asyncio.sleep(0.01)
    print(*pool.pids, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_a_worker_does_not_outlive_its_parent(stopped):
    if stopped and not ON_LINUX:
        pytest.skip("only Linux can end a stopped child with its parent")
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if stopped:
            os.kill(pid, signal.SIGSTOP)
        parent.kill()
    asyncio.run(until(lambda: not is_running(pid) or is_zombie(pid)))


def is_zombie(pid: int) -> bool:
    """Ended, but not yet taken note of by whoever has adopted it."""
    try:
        return ") Z" in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.skipif(not ON_LINUX, reason="reads /proc")
def test_a_worker_holds_no_secrets_and_few_libraries(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_API_KEY", "sl-secret")

    async def run() -> tuple[str, str, str]:
        worker = await DecodeProcess.start(PATIENT)
        await worker.decode(files.PNG, SQUARE)
        proc = Path(f"/proc/{worker.pid}")
        texts = [(proc / name).read_bytes().decode() for name in ("environ", "maps", "limits")]
        await worker.end()
        return texts[0], texts[1], texts[2]

    environ, maps, limits = asyncio.run(run())
    assert "sl-secret" not in environ
    assert not [name for name in ("torch", "numpy", "pydantic", "msgspec") if f"/{name}/" in maps]
    assert f"Max address space         {PATIENT.decode_address_bytes}" in limits
    assert "Max file size             0 " in limits
