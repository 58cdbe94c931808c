"""`POST /v1/completions`: one request per prompt, all at once, told as one answer."""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.chat import ChatDelta, ChatRequest, Notice, Usage
from sightline.core.errors import InternalError
from sightline.server.completions.convert import (
    CompletionCall,
    CompletionWriter,
    LegacyLogprobs,
    to_completion_call,
)
from sightline.server.completions.schema import CompletionBody
from sightline.server.context import RequestContext, context_of
from sightline.server.contract import Chat
from sightline.server.hangup import run_for_client
from sightline.server.intake import Terms, read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.openai.convert import system_fingerprint
from sightline.server.options import ServerOptions
from sightline.server.router import Router
from sightline.server.sse import EventStream, block
from sightline.server.via_chat import Renamed, parse_body
from sightline.server.whole_answer import side_by_side, tell, whole_answer
from sightline.service.budget import require_room
from sightline.service.request_log import Facts


def completions_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> Router:
    router = Router()

    @router.post("/v1/completions")
    @router.post("/completions")
    async def create_completion(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        call = await read_call(request, options, _understand)
        context.understood(call.completion_id, call.notices, stream=call.stream)
        model = chat.model
        writer = CompletionWriter(
            completion_id=call.completion_id,
            created=int(time.time()),
            model=model.id,
            fingerprint=system_fingerprint(model),
            include_usage=call.include_usage,
            logprobs=call.requests[0].logprobs is not None,
        )
        asked = [Renamed(chat, renames) for renames in call.renames]
        if call.stream:
            return EventStream(
                _stream(asked, call, writer, context, lifecycle),
                lifecycle=lifecycle,
                keep_alive_s=options.limits.keep_alive_comment_s,
            )
        works = [
            whole_answer(one, request, context, lifecycle, facts=_facts(number, context))
            for number, (one, request) in enumerate(zip(asked, call.requests, strict=True))
        ]
        answers = await run_for_client(side_by_side(works), request.receive, lifecycle)
        return await tell(answers, partial(writer.whole, answers))

    return router


def _understand(body: bytes, terms: Terms) -> CompletionCall:
    return to_completion_call(
        parse_body(CompletionBody, body, terms), terms, completion_id=f"cmpl-{uuid.uuid4().hex}"
    )


def _facts(number: int, context: RequestContext) -> Facts:
    """Return where the facts of a prompt go: the access line tells those of the first."""
    return context.log if number == 0 else {}


async def _stream(
    asked: Sequence[Renamed],
    call: CompletionCall,
    writer: CompletionWriter,
    context: RequestContext,
    lifecycle: Lifecycle,
) -> AsyncGenerator[bytes, None]:
    """Yield the blocks of the stream up to `[DONE]`, each as soon as its text is there."""
    usages: list[Usage] = []
    logprobs: dict[int, LegacyLogprobs] = {}
    with lifecycle.running_answer():
        if len(asked) > 1:  # the first words of one must not come before the refusal of another
            works = [_judged(*pair) for pair in zip(asked, call.requests, strict=True)]
            for notices in await side_by_side(works):
                context.notices.extend(notices)
        async with aclosing(_merged(asked, call.requests, context)) as deltas:
            async for prompt, delta in deltas:
                index = prompt * call.requests[prompt].n + delta.index
                told = None
                if delta.logprobs:
                    told = logprobs.setdefault(index, LegacyLogprobs()).of(delta.logprobs)
                if delta.text or told:
                    yield block(writer.chunk(index, delta.text, logprobs=told))
                if delta.finish_reason is not None:
                    yield block(writer.chunk(index, "", finish_reason=delta.finish_reason))
                if delta.usage is not None:
                    usages.append(delta.usage)
    if len(usages) != len(call.requests):
        raise InternalError
    if call.include_usage:
        yield block(writer.usage(usages))


async def _judged(asked: Renamed, request: ChatRequest) -> Sequence[Notice]:
    """Return what is noticed of a prompt. Raises `RequestError` as working on it would."""
    with asked.renames.applied():
        measure = await asked.chat.measure(request)
        require_room(measure.counts, window=measure.model.info.max_model_len)
    return measure.notices


async def _merged(
    asked: Sequence[Renamed], requests: Sequence[ChatRequest], context: RequestContext
) -> AsyncGenerator[tuple[int, ChatDelta], None]:
    """Yield the deltas of all requests as they come, each with its request's number."""
    # Each answer is read by a task of its own; one place in the queue keeps them at the client's
    # pace.
    queue: asyncio.Queue[tuple[int, ChatDelta]] = asyncio.Queue(maxsize=1)

    async def read(number: int, request: ChatRequest) -> None:
        facts = _facts(number, context)
        answer = await asked[number].start(request, streaming=True, facts=facts)
        async with aclosing(answer):
            if len(requests) == 1:
                context.notices.extend(answer.notices)
            async for delta in answer:
                await queue.put((number, delta))

    reading = asyncio.ensure_future(side_by_side([read(*pair) for pair in enumerate(requests)]))
    try:
        while True:
            getting = asyncio.ensure_future(queue.get())
            await asyncio.wait((getting, reading), return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                yield getting.result()
                continue
            getting.cancel()
            if not queue.empty():
                continue
            reading.result()
            return
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
