"""Real engine processes that end as on a GPU, and what those behind them leave out."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sightline.backends import child, process
from sightline.backends.process import ProcessEngine
from sightline.core.engine_options import EngineOptions, FaultOptions
from sightline.core.errors import StartupError
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(400)]
PATIENCE_S = 120

# The engine's own process, but for what it tries, as on a GPU, on any machine.
HOST = """
import os, signal, sys, threading
from sightline.engine import build, host
from sightline.models.gpu import trials

def choose_kernels(options, loaded):
    for name in ("norm", "attention"):
        try:
            with trials.trial(name, loaded.device):
                if name == "attention":
                    {ends}
        except trials.LeftOut:
            pass

build.choose_kernels = choose_kernels
host.run_to_the_end(sys.argv[1:])
"""
# One whose kernels end it in service, on one prompt.
SERVING_HOST = """
import sys
from dataclasses import replace
from sightline.engine import build, host

def build_engine(options, *arguments):
    if "own" in options.without_kernels:
        options = replace(options, faults=None)
    loop = made(options, *arguments)
    loop.info = replace(loop.info, device="cuda:0")
    return loop

made, build.build_engine = build.build_engine, build_engine
host.run_to_the_end(sys.argv[1:])
"""
CRASHES = "os.kill(os.getpid(), signal.SIGSEGV)"
LOSES_ITS_DEVICE = "trials.is_lost = lambda device: True"
HANGS = "threading.Event().wait()"
IS_KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


def let_be_launched(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", script, *arguments], stdin=subprocess.PIPE
        )

    monkeypatch.setattr(child, "launch", launch)


def engine_that(ends: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ProcessEngine:
    let_be_launched(HOST.format(ends=ends), monkeypatch)
    return ProcessEngine(EngineOptions(model=str(folder), num_threads=1))


async def answer_of(engine: ProcessEngine, *token_ids: int) -> int:
    """Return how many tokens the engine says."""
    params = SamplingParams(max_tokens=5, temperature=0)
    prompt = Prompt(token_ids=token_ids or (1, 2, 3))
    deltas = [d async for d in engine.generate(prompt, params, "r")]
    return sum(len(delta.token_ids) for delta in deltas)


@pytest.mark.parametrize("ends", [CRASHES, LOSES_ITS_DEVICE])
def test_what_a_start_dies_of_is_left_out_of_the_next_one(
    ends: str,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        engine = engine_that(ends, tiny_folder, monkeypatch)
        await engine.start()
        try:
            assert await answer_of(engine) == 5
            assert (await engine.stats()).num_restarts == 0, "nobody was served by the first one"
        finally:
            await engine.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    [told] = [r.getMessage() for r in caplog.records if "leaves out" in r.getMessage()]
    assert "--without-kernels attention" in told


def test_so_is_what_a_start_hangs_in(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        engine = engine_that(HANGS, tiny_folder, monkeypatch)
        start = asyncio.create_task(engine.start())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while engine._child is None or engine._child.on_trial() != "attention":  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                hanging = engine._child
                with monkeypatch.context() as impatient:
                    impatient.setattr(process, "LOADING_TIMEOUT_S", 0.0)
                    while engine._child is hanging:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            await start
            assert await answer_of(engine) == 5
        finally:
            await engine.close()
            await asyncio.gather(start, return_exceptions=True)

    asyncio.run(main())


def test_a_process_that_is_killed_did_not_die_of_what_it_tried(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system does for want of memory."""

    async def main() -> None:
        engine = engine_that(IS_KILLED, tiny_folder, monkeypatch)
        with pytest.raises(StartupError, match=r"was killed \(signal 9"):
            await engine.start()
        await engine.close()

    asyncio.run(main())


def test_who_dies_twice_in_service_on_a_gpu_goes_on_without_kernels_of_ours(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kill_token = 203

    async def main() -> None:
        let_be_launched(SERVING_HOST, monkeypatch)
        options = EngineOptions(
            model=str(tiny_folder),
            num_threads=1,
            allow_faults=True,
            faults=FaultOptions(kill_token=kill_token),
        )
        engine = ProcessEngine(options, restart_wait_s=PATIENCE_S)
        await engine.start()
        try:
            assert await answer_of(engine, 1, kill_token) == 5, "it was the kernels, not the prompt"
            assert (await engine.stats()).num_restarts == 2
        finally:
            await engine.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    [told] = [r.getMessage() for r in caplog.records if "leaves out" in r.getMessage()]
    assert "--without-kernels own" in told
