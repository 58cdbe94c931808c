"""The choices of one answer, each a request of its own in the engine, read as one stream.

The first choice starts alone; the others follow once its prompt has been computed, so that they
find it in the engine's cache and no picture is encoded twice.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from sightline.core.chat import ChatDelta, FinishReason, Usage
from sightline.core.engine import Engine
from sightline.core.errors import InternalError, Unavailable
from sightline.core.prompt import Prompt
from sightline.service.answer_text import Shown
from sightline.service.generation import Generation
from sightline.service.request_log import RequestLog

# More deltas than this per choice do not wait for a slow reader; they pile up as tokens instead.
MAX_WAITING = 4
# How often an answer is begun anew that went down with its engine.
MAX_REPEATS = 3


def read_choices(
    engine: Engine, prompt: Prompt, generation: Generation, log: RequestLog
) -> AsyncGenerator[ChatDelta, None]:
    """Generate, and yield every choice's text as it becomes certain.

    Closing the generator aborts what is still being generated. The last delta has the usage of
    all choices together.
    """
    read = read_choice if generation.request.n == 1 else _read_several
    return read(engine, prompt, generation, log)


async def _read_several(
    engine: Engine, prompt: Prompt, generation: Generation, log: RequestLog
) -> AsyncGenerator[ChatDelta, None]:
    usages: list[Usage] = []
    async with aclosing(_interleave(engine, prompt, generation, log)) as deltas:
        async for delta in deltas:
            if delta.usage is None:
                yield delta
                continue
            usages.append(delta.usage)
            is_last = len(usages) == generation.request.n
            yield replace(delta, usage=_total(usages) if is_last else None)


async def read_choice(
    engine: Engine,
    prompt: Prompt,
    generation: Generation,
    log: RequestLog,
    index: int = 0,
    on_start: Callable[[], None] = lambda: None,
) -> AsyncGenerator[ChatDelta, None]:
    """Generate one choice. Every delta but the last has something to show.

    The last one has the finish reason and the usage of this choice. `on_start` is called when the
    prompt has been computed. A stop string aborts the request in the engine. An engine that dies
    before there was anything to show is asked again.
    """
    prompt_tokens, image_tokens = len(prompt.token_ids), prompt.num_image_tokens
    unheard: Prompt | None = prompt  # megabytes of pixels, kept while nobody has heard anything
    del prompt
    finish_reason: FinishReason | None = None
    params, request_id = generation.choice_params(index), generation.request.request_id
    num_repeats = 0
    while True:
        text, shown = generation.answer_text(), Shown()
        cached_tokens, has_tokens = 0, False
        assert unheard is not None
        try:
            async with aclosing(engine.generate(unheard, params, request_id)) as tokens:
                async for delta in tokens:
                    has_tokens = True
                    on_start()
                    log.tokens(delta)
                    cached_tokens = max(cached_tokens, delta.num_cached_tokens)
                    shown = text.feed(delta.token_ids, generation.likelihoods(delta))
                    finish_reason = "stop" if text.is_stopped else delta.finish_reason
                    if finish_reason is not None:
                        break
                    if shown:
                        unheard = None
                        yield _delta(index, shown)
        except Unavailable as error:
            # Without tokens the engine has tried again by itself for as long as it may.
            is_lost = error.code == "engine_restarting" and has_tokens and unheard is not None
            if not is_lost or num_repeats == MAX_REPEATS:
                raise
            num_repeats += 1
            continue
        break
    if finish_reason is None:
        raise InternalError  # the engine fell silent without one
    shown += text.finish(cut=finish_reason == "length")
    if text.num_calls and finish_reason == "stop":
        finish_reason = "tool_calls"
    usage = Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=text.num_tokens,
        image_tokens=image_tokens,
        cached_tokens=cached_tokens,
        reasoning_tokens=text.num_reasoning_tokens,
    )
    yield replace(
        _delta(index, shown),
        finish_reason=finish_reason,
        stop_string=text.stop_string,
        usage=usage,
    )


async def _interleave(
    engine: Engine, prompt: Prompt, generation: Generation, log: RequestLog
) -> AsyncGenerator[ChatDelta, None]:
    """Yield the deltas of all choices as they come; the first failure ends all of them."""
    number = generation.request.n
    arrived: asyncio.Queue[ChatDelta | BaseException] = asyncio.Queue(MAX_WAITING * number)
    started = asyncio.Event()

    async def pump(index: int) -> None:
        try:
            if index > 0:
                await started.wait()
            choice = read_choice(engine, prompt, generation, log, index, started.set)
            async with aclosing(choice) as deltas:
                async for delta in deltas:
                    await arrived.put(delta)
        except Exception as error:
            await arrived.put(error)

    pumps = [asyncio.create_task(pump(index)) for index in range(number)]
    try:
        num_finished = 0
        while num_finished < number:
            delta = await arrived.get()
            if isinstance(delta, BaseException):
                raise delta
            num_finished += delta.finish_reason is not None
            yield delta
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def _total(usages: list[Usage]) -> Usage:
    """Return what all choices cost; the prompt counts once, as the first one found it."""
    return replace(
        usages[0],
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        cached_tokens=min(usage.cached_tokens for usage in usages),
    )


def _delta(index: int, shown: Shown) -> ChatDelta:
    return ChatDelta(
        index=index,
        text=shown.text,
        reasoning=shown.reasoning,
        tool_calls=shown.tool_calls,
        logprobs=shown.logprobs,
    )
