"""The system's resolver, without a network."""

import asyncio
import socket
import threading

import pytest

from sightline.media.resolve import MAX_LOOKUPS, SystemResolver


def test_numbers_and_localhost_are_resolved():
    async def run():
        resolve = SystemResolver()
        return await resolve("127.1", 80), await resolve("localhost", 80)

    numbers, names = asyncio.run(run())
    assert numbers == ["127.0.0.1"]
    assert set(names) <= {"127.0.0.1", "::1"}
    assert names


def test_a_host_that_does_not_exist_is_an_os_error():
    async def run():
        await SystemResolver()("a" * 64, 80)

    with pytest.raises(OSError, match="no such host"):
        asyncio.run(run())


def test_lookups_that_hang_are_bounded_and_nobody_waits_for_them(monkeypatch):
    release = threading.Event()
    num_started = 0

    def hang(*args, **kwargs):
        nonlocal num_started
        num_started += 1
        release.wait()
        raise OSError

    async def run():
        resolve = SystemResolver()
        tasks = [asyncio.create_task(resolve("slow.test", 80)) for _ in range(MAX_LOOKUPS + 5)]
        while num_started < MAX_LOOKUPS:  # noqa: ASYNC110 -- threads set no event
            await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        waiting = asyncio.create_task(resolve("slow.test", 80))
        await asyncio.sleep(0.02)
        assert num_started == MAX_LOOKUPS  # those that were given up still hold their places
        release.set()
        with pytest.raises(OSError, match="no such host"):
            await waiting

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    asyncio.run(run())
