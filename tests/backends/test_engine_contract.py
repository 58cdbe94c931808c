"""What every engine behind the seam promises, tried on each of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sightline.backends.fake import ASSISTANT, USER, FakeEngine
from sightline.backends.inline import InlineEngine
from sightline.backends.process import ProcessEngine
from sightline.core.engine import Engine, TokenDelta
from sightline.core.engine_options import EngineOptions
from sightline.core.errors import Unavailable
from sightline.core.prompt import Image, ImageSpan, Prompt
from sightline.core.sampling import SamplingParams

PROMPT = Prompt(token_ids=(USER, *b"\nhow many cats are there?", ASSISTANT))
IMAGE_TOKENS, IMAGE_SIZE = 18, 112

Scenario = Callable[[Engine], Awaitable[None]]
Runner = Callable[[Scenario], None]


@asynccontextmanager
async def started(kind: str, folder: Path | None) -> AsyncIterator[Engine]:
    engine: FakeEngine | InlineEngine | ProcessEngine
    if kind == "fake":
        engine = FakeEngine()
    else:
        options = EngineOptions(model=str(folder), num_threads=1, max_num_batched_tokens=16)
        if kind == "process":
            engine = ProcessEngine(options)
        else:
            from sightline.engine.build import build_engine

            engine = InlineEngine(lambda progress: build_engine(options, progress))
        await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


# A busy machine may need a minute to start an engine.
pytestmark = pytest.mark.timeout(400)

KINDS = [
    "fake",
    pytest.param("inline", marks=pytest.mark.engine),
    pytest.param("process", marks=[pytest.mark.engine, pytest.mark.live]),
]


def folder_for(kind: str, request: pytest.FixtureRequest) -> Path | None:
    folder: Path | None = None if kind == "fake" else request.getfixturevalue("tiny_folder")
    return folder


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Runs scenarios on one engine, which all tests of its kind share."""
    manager = started(request.param, folder_for(request.param, request))
    with asyncio.Runner() as runner:
        engine = runner.run(manager.__aenter__())
        yield lambda scenario: runner.run(call(scenario, engine))
        runner.run(manager.__aexit__(None, None, None))


@pytest.fixture(params=KINDS)
def run_alone(request: pytest.FixtureRequest) -> Runner:
    """Runs a scenario on an engine of its own, which it may close."""

    async def main(scenario: Scenario) -> None:
        async with started(request.param, folder_for(request.param, request)) as engine:
            await scenario(engine)

    return lambda scenario: asyncio.run(main(scenario))


async def call(scenario: Scenario, engine: Engine) -> None:
    await scenario(engine)


def params(max_tokens: int = 12, **more: float) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, **({"temperature": 0.0} | more))


async def collect(
    engine: Engine, prompt: Prompt = PROMPT, settings: SamplingParams | None = None
) -> list[TokenDelta]:
    return [d async for d in engine.generate(prompt, settings or params(), "same id for all")]


def ids(deltas: list[TokenDelta]) -> list[int]:
    return [token_id for delta in deltas for token_id in delta.token_ids]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for the engine's books; they arrive with its next message."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def is_idle(engine: Engine) -> bool:
    stats = await engine.stats()
    return stats.num_running == stats.num_waiting == stats.kv_slots_used == 0


def picture(shade: int) -> Image:
    return Image(
        pixels=bytes([shade, 255 - shade, 7]) * IMAGE_SIZE**2,
        width=IMAGE_SIZE,
        height=IMAGE_SIZE,
        digest=bytes([shade]) * 32,
        original_width=640,
        original_height=480,
    )


def prompt_with(image: Image) -> Prompt:
    before, after = (USER, *b"\n"), (*b"what is this?", ASSISTANT)
    span = ImageSpan(image=image, start=len(before), length=IMAGE_TOKENS)
    return Prompt(token_ids=(*before, *[0] * IMAGE_TOKENS, *after), images=(span,))


def test_an_answer_ends_with_its_only_finish_reason(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        deltas = await collect(engine)
        assert [d.finish_reason for d in deltas[:-1]] == [None] * (len(deltas) - 1)
        assert deltas[-1].finish_reason == "length"
        assert len(ids(deltas)) == 12

    run(scenario)


def test_a_stop_token_is_the_last_of_the_answer(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        said = ids(await collect(engine))
        stop = said[3]
        settings = SamplingParams(max_tokens=12, temperature=0, stop_token_ids=(stop,))
        deltas = await collect(engine, settings=settings)
        assert ids(deltas) == said[: said.index(stop) + 1]
        assert deltas[-1].finish_reason == "stop"

    run(scenario)


def test_timings_are_on_the_first_delta_only(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        first, *rest = await collect(engine)
        assert None not in (first.queue_s, first.encode_s, first.prefill_s)
        assert all(d.queue_s is d.encode_s is d.prefill_s is None for d in rest)

    run(scenario)


def test_company_does_not_change_an_answer(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        prompts = [
            Prompt(token_ids=(USER, *b"\n" + bytes([65 + n]) * (7 * n + 1), ASSISTANT))
            for n in range(6)
        ]
        prompts.append(prompt_with(picture(40)))
        settings = [
            params(),
            params(temperature=0.9, seed=5),
            params(temperature=1.0, top_p=0.5, seed=-1),
        ]
        cases = [(p, s) for p in prompts for s in settings]
        alone = [ids(await collect(engine, p, s)) for p, s in cases]
        together = await asyncio.gather(*(collect(engine, p, s) for p, s in cases))
        assert [ids(deltas) for deltas in together] == alone

    run(scenario)


def test_one_picture_never_answers_for_another(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        cat, dog = prompt_with(picture(10)), prompt_with(picture(200))
        settings = params(40)
        first = ids(await collect(engine, cat, settings))
        assert ids(await collect(engine, dog, settings)) != first
        assert ids(await collect(engine, cat, settings)) == first

    run(scenario)


def test_closing_the_iterator_frees_the_engine(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        stream = engine.generate(PROMPT, params(400), "r")
        await anext(stream)
        assert (await engine.stats()).num_running == 1
        await stream.aclose()
        await until(lambda: is_idle(engine))

    run(scenario)


def test_a_request_cancelled_before_its_first_token_frees_the_engine(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        readers = [asyncio.ensure_future(collect(engine)) for _ in range(20)]
        await asyncio.sleep(0)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await until(lambda: is_idle(engine))
        assert len(ids(await collect(engine))) == 12

    run(scenario)


def test_a_ready_engine_tells_about_its_model(run: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        assert engine.is_ready
        assert engine.info.prompt_format == "glm4"
        assert engine.info.image_policy is not None
        assert engine.info.tokenizer_file.endswith("tokenizer.model")

    run(scenario)


def test_a_closed_engine_takes_nothing_and_closes_twice(run_alone: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        await engine.close()
        assert not engine.is_ready
        with pytest.raises(Unavailable):
            await collect(engine)
        await engine.close()

    run_alone(scenario)


def test_closing_ends_live_requests_cleanly(run_alone: Runner) -> None:
    async def scenario(engine: Engine) -> None:
        stream = engine.generate(PROMPT, params(400), "r")
        await anext(stream)
        await engine.close()
        with pytest.raises(Unavailable):
            async for _ in stream:
                pass

    run_alone(scenario)


@pytest.mark.engine
@pytest.mark.live
def test_inline_and_process_say_the_same(tiny_folder: Path) -> None:
    async def said(kind: str) -> list[list[int]]:
        async with started(kind, tiny_folder) as engine:
            prompts = (PROMPT, prompt_with(picture(3)))
            settings = (params(30), params(30, temperature=1.0, seed=11))
            return [ids(await collect(engine, p, s)) for p in prompts for s in settings]

    assert asyncio.run(said("inline")) == asyncio.run(said("process"))
