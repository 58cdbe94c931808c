"""A real engine process that dies, hangs, or cannot start."""

import asyncio
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from sightline.backends import process
from sightline.backends.fake import ASSISTANT, USER
from sightline.backends.process import HANG_TIMEOUT_S, ProcessEngine
from sightline.core.engine import TokenDelta
from sightline.core.engine_options import EngineOptions, FaultOptions
from sightline.core.errors import InternalError, RequestError, StartupError, Unavailable
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Loading, StepOutput

# A busy machine may need a minute to start an engine, and some of these start three.
pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(400)]
PATIENCE_S = 120

RAISE, NAN, HANG, KILL = 200, 201, 202, 203
GREEDY = SamplingParams(max_tokens=12, temperature=0)
LONG = SamplingParams(max_tokens=400, temperature=0)


@asynccontextmanager
async def engine_for(
    folder: Path, *, step_delay_s: float = 0.0, max_num_seqs: int = 256, hang_timeout_s: float = 30
) -> AsyncIterator[ProcessEngine]:
    faults = FaultOptions(
        raise_token=RAISE,
        nan_token=NAN,
        hang_token=HANG,
        kill_token=KILL,
        step_delay_s=step_delay_s,
    )
    options = EngineOptions(
        model=str(folder),
        num_threads=1,
        max_num_seqs=max_num_seqs,
        allow_faults=True,
        faults=faults,
    )
    engine = ProcessEngine(options, hang_timeout_s=hang_timeout_s, restart_wait_s=PATIENCE_S)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def prompt(text: str, *faults: int) -> Prompt:
    return Prompt(token_ids=(USER, *text.encode(), *faults, ASSISTANT))


async def collect(
    engine: ProcessEngine, asked: Prompt, settings: SamplingParams = GREEDY
) -> list[int]:
    deltas: list[TokenDelta] = [d async for d in engine.generate(asked, settings, "r")]
    return [token_id for delta in deltas for token_id in delta.token_ids]


async def pid_of(engine: ProcessEngine) -> int:
    pid = (await engine.stats()).pid
    assert pid is not None
    return pid


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def is_down(engine: ProcessEngine) -> bool:
    return not engine.is_ready


def test_a_killed_engine_ends_who_was_answering_and_nobody_else(tiny_folder: Path) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder, step_delay_s=0.01, max_num_seqs=4) as engine:
            canary = await collect(engine, prompt("canary"))
            answering = [engine.generate(prompt(f"live {n}"), LONG, "r") for n in range(4)]
            for stream in answering:
                await anext(stream)
            queued = [
                asyncio.ensure_future(collect(engine, prompt(f"queued {n}"))) for n in range(8)
            ]
            await until(lambda: num_waiting_is(engine, 8))
            pid = await pid_of(engine)
            killed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            for stream in answering:
                with pytest.raises(Unavailable) as raised:
                    async for _ in stream:
                        pass
                assert raised.value.code == "engine_restarting"
            assert time.monotonic() - killed_at < 2
            assert not engine.is_ready
            assert all(len(token_ids) == 12 for token_ids in await asyncio.gather(*queued))
            assert await pid_of(engine) != pid
            assert engine.is_ready
            assert (await engine.stats()).num_restarts == 1
            assert await collect(engine, prompt("canary")) == canary

    async def num_waiting_is(engine: ProcessEngine, number: int) -> bool:
        return (await engine.stats()).num_waiting == number

    asyncio.run(main())


def test_a_request_that_comes_while_the_engine_restarts_is_served(tiny_folder: Path) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder) as engine:
            os.kill(await pid_of(engine), signal.SIGKILL)
            await until(lambda: is_down(engine))
            assert engine.info.model_id == "tiny"
            assert len(await collect(engine, prompt("patience"))) == 12

    asyncio.run(main())


def test_what_was_counted_is_not_forgotten_when_an_engine_dies(tiny_folder: Path) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder) as engine:
            await collect(engine, prompt("before"))
            before = await engine.stats()
            os.kill(await pid_of(engine), signal.SIGKILL)
            await until(lambda: is_down(engine))
            meanwhile = await engine.stats()
            await collect(engine, prompt("behind"))
            after = await engine.stats()
            assert (meanwhile.num_running, meanwhile.kv_slots_total) == (0, 0)
            assert meanwhile.step_time_s.bounds == before.step_time_s.bounds
            for field in ("num_output_tokens", "prefix_queries", "num_cut"):
                assert 2 * getattr(before, field) == getattr(after, field)
            for field in ("step_time_s", "inter_token_s", "batch_tokens"):
                counts = [getattr(one, field).counts for one in (before, meanwhile, after)]
                assert all(one <= two <= three for one, two, three in zip(*counts, strict=True))
                assert getattr(after, field).count > getattr(before, field).count

    asyncio.run(main())


def test_a_prompt_that_kills_the_engine_twice_is_refused(tiny_folder: Path) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder) as engine:
            killer = asyncio.ensure_future(collect(engine, prompt("boom", KILL)))
            await until(lambda: has_restarted(engine))
            innocent = asyncio.ensure_future(collect(engine, prompt("hello")))
            with pytest.raises(RequestError) as raised:
                await killer
            assert raised.value.code == "invalid_value"
            assert len(await innocent) == 12
            with pytest.raises(RequestError):
                await collect(engine, prompt("boom", KILL))
            assert (await engine.stats()).num_restarts == 2

    async def has_restarted(engine: ProcessEngine) -> bool:
        return (await engine.stats()).num_restarts > 0

    asyncio.run(main())


def test_whoever_keeps_company_with_a_prompt_that_kills_is_never_refused(tiny_folder: Path) -> None:
    settings = SamplingParams(max_tokens=60, temperature=0)

    async def ask_again(engine: ProcessEngine, asked: Prompt) -> list[int]:
        while True:
            try:
                return await collect(engine, asked, settings)
            except Unavailable as error:
                assert error.code == "engine_restarting"  # noqa: PT017

    async def main() -> None:
        async with engine_for(tiny_folder, step_delay_s=0.01) as engine:
            company = [prompt(f"good {n}") for n in range(6)]
            *answers, failure = await asyncio.gather(
                *(ask_again(engine, asked) for asked in company),
                collect(engine, prompt("boom", KILL), settings),
                return_exceptions=True,
            )
            assert isinstance(failure, RequestError)
            assert [len(answer) for answer in answers] == [60] * len(company)
            assert (await engine.stats()).num_restarts <= 3

    asyncio.run(main())


@pytest.mark.parametrize("fault", [RAISE, NAN], ids=["raises", "gives NaN"])
def test_a_step_that_fails_for_one_request_fails_only_that_one(
    tiny_folder: Path, fault: int
) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder) as engine:
            good = [prompt(f"good {n}") for n in range(7)]
            alone = [await collect(engine, p) for p in good]
            pid = await pid_of(engine)
            *answers, failure = await asyncio.gather(
                *(collect(engine, p) for p in good),
                collect(engine, prompt("bad", fault)),
                return_exceptions=True,
            )
            assert isinstance(failure, InternalError)
            assert answers == alone
            stats = await engine.stats()
            assert (stats.pid, stats.num_running, stats.kv_slots_used) == (pid, 0, 0)

    asyncio.run(main())


def test_a_hung_engine_is_noticed_explained_and_replaced(
    tiny_folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder, hang_timeout_s=2.0) as engine:
            hung = asyncio.ensure_future(collect(engine, prompt("hang", HANG)))
            with pytest.raises(RequestError):  # it hangs the next engine, too
                await hung
            assert len(await collect(engine, prompt("hello"))) == 12

    asyncio.run(main())
    assert "faults.py" in capfd.readouterr().err  # the stack of the hanging thread
    silences = re.findall(r"has been silent for ([0-9.]+) s", caplog.text)
    assert len(silences) == 2
    # Five times the slowest step counts too: on a busy machine that is more than the two seconds.
    assert all(2.0 <= float(silence) < 10.0 for silence in silences)


def test_how_long_loading_takes_does_not_put_off_the_notice_of_a_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        engine = ProcessEngine(EngineOptions(model="large"))
        engine._ledger.open(prompt("waits for the engine"), GREEDY)
        monkeypatch.setattr(engine, "_send", lambda request: None)
        minutes = itertools.count(0, 60)
        monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: next(minutes)))
        loaded = asyncio.get_running_loop().create_future()
        for report in (Loading(done=1, total=2), Loading(done=2, total=2), StepOutput()):
            engine._take(report, loaded)
        assert engine._watch.limit_s == HANG_TIMEOUT_S

    asyncio.run(main())


def test_a_hang_is_noticed_when_everybody_has_left(tiny_folder: Path) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder, hang_timeout_s=2.0) as engine:
            asking = asyncio.ensure_future(collect(engine, prompt("hang", HANG)))

            async def is_on_device() -> bool:
                return engine._child is not None and bool(engine._child.on_device())

            async def is_replaced() -> bool:
                return (await engine.stats()).num_restarts == 1 and engine.is_ready

            await until(is_on_device)
            asking.cancel()
            await until(is_replaced)
            assert len(await collect(engine, prompt("hello"))) == 12

    asyncio.run(main())


def test_an_engine_that_works_slowly_is_left_alone(tiny_folder: Path) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder, step_delay_s=0.8, hang_timeout_s=3.0) as engine:
            settings = SamplingParams(max_tokens=3, temperature=0)
            answers = (collect(engine, prompt(f"slow {n}"), settings) for n in range(2))
            assert [len(a) for a in await asyncio.gather(*answers)] == [3, 3]
            assert (await engine.stats()).num_restarts == 0

    asyncio.run(main())


def test_a_model_that_cannot_be_loaded_is_a_startup_error(tmp_path: Path) -> None:
    async def main() -> None:
        engine = ProcessEngine(EngineOptions(model=str(tmp_path)))
        with pytest.raises(StartupError) as raised:
            await engine.start()
        assert "\n" not in raised.value.message
        with pytest.raises(Unavailable) as refused:
            await collect(engine, prompt("hello"))
        assert refused.value.code == "model_loading"
        await engine.close()

    asyncio.run(main())


def test_an_engine_can_be_closed_while_it_loads(tiny_folder: Path) -> None:
    async def main() -> None:
        engine = ProcessEngine(EngineOptions(model=str(tiny_folder)))
        starting = asyncio.ensure_future(engine.start())
        await asyncio.sleep(0)
        await engine.close()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(main())


def test_faults_need_permission(tiny_folder: Path) -> None:
    async def main() -> None:
        options = EngineOptions(model=str(tiny_folder), faults=FaultOptions(kill_token=1))
        engine = ProcessEngine(options)
        with pytest.raises(StartupError):
            await engine.start()
        await engine.close()

    asyncio.run(main())


def test_no_engine_outlives_a_killed_front(tiny_folder: Path) -> None:
    front = textwrap.dedent(
        """
        import asyncio, sys
        from sightline.backends.process import ProcessEngine
        from sightline.core.engine_options import EngineOptions

        async def main():
            engine = ProcessEngine(EngineOptions(model=sys.argv[1], num_threads=1))
            await engine.start()
            print((await engine.stats()).pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", front, str(tiny_folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        engine_pid = int(process.stdout.readline())
        process.kill()
    deadline = time.monotonic() + 2
    while is_running(engine_pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(engine_pid)


def is_running(pid: int) -> bool:
    """Say whether the process exists and is no zombie that its new parent has not seen yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(listed.stdout.strip()) and not listed.stdout.startswith("Z")


def modes(folder: Path) -> list[int]:
    return [entry.stat().st_mode & 0o777 for entry in folder.glob("sightline-*")]


def test_the_sockets_are_gone_after_close(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(folder: Path) -> list[int]:
        async with engine_for(tiny_folder) as engine:
            await collect(engine, prompt("hello"))
            return modes(folder)

    # Not pytest's own folder: addresses of sockets must be short.
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        assert asyncio.run(main(Path(folder))) == [0o700]
        assert list(Path(folder).glob("sightline-*")) == []


def tidy(folder: Path) -> None:
    [private] = folder.glob("sightline-*")
    shutil.rmtree(private)


def test_an_engine_is_replaced_although_somebody_tidied_its_folder_away(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(folder: Path) -> None:
        async with engine_for(tiny_folder) as engine:
            canary = await collect(engine, prompt("canary"))
            tidy(folder)
            os.kill(await pid_of(engine), signal.SIGKILL)
            await until(lambda: is_down(engine))
            assert await collect(engine, prompt("canary")) == canary

    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        asyncio.run(main(Path(folder)))
        assert list(Path(folder).glob("sightline-*")) == []


def test_a_client_that_leaves_does_not_hide_what_killed_the_engine(tiny_folder: Path) -> None:
    async def main() -> None:
        async with engine_for(tiny_folder) as engine:
            for crashes in (1, 2):
                killer = asyncio.ensure_future(collect(engine, prompt("boom", KILL)))
                await until(lambda: is_down(engine))
                killer.cancel()
                await asyncio.gather(killer, return_exceptions=True)
                await until(lambda n=crashes: is_back(engine, n))
            with pytest.raises(RequestError):
                await collect(engine, prompt("boom", KILL))

    async def is_back(engine: ProcessEngine, number: int) -> bool:
        return engine.is_ready and (await engine.stats()).num_restarts == number

    asyncio.run(main())
