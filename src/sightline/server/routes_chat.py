"""`POST /v1/chat/completions`: read, convert, ask the service, answer whole or as a stream."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sightline.core.chat import ChatDelta
from sightline.core.errors import InternalError
from sightline.server import ascii_json
from sightline.server.context import RequestContext, context_of
from sightline.server.contract import Chat
from sightline.server.hangup import run_for_client
from sightline.server.intake import Terms, read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.openai_convert import (
    ChatCall,
    ChunkWriter,
    completion_object,
    report_object,
    system_fingerprint,
    to_chat_call,
)
from sightline.server.openai_schema import parse_chat_body
from sightline.server.options import ServerOptions
from sightline.server.sse import EventStream, block


def chat_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions")
    @router.post("/chat/completions")
    async def create_chat_completion(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        call = await read_call(request, options, read_chat)
        context.notices.extend(call.notices)
        context.log["chat_id"] = call.request.request_id
        context.log["stream"] = call.stream
        if call.stream:
            return EventStream(
                _stream(chat, call, context, lifecycle),
                lifecycle=lifecycle,
                keep_alive_s=options.limits.keep_alive_comment_s,
            )
        completion = await run_for_client(
            _complete(chat, call, context, lifecycle), request.receive, lifecycle
        )
        return Response(ascii_json.encode(completion), media_type="application/json")

    return router


def read_chat(body: bytearray, terms: Terms) -> ChatCall:
    return to_chat_call(
        parse_chat_body(body, terms.limits),
        request_id=f"chatcmpl-{uuid.uuid4().hex}",
        strict=terms.strict,
        cache_salt=terms.cache_salt,
        limits=terms.limits,
    )


async def _complete(
    chat: Chat, call: ChatCall, context: RequestContext, lifecycle: Lifecycle
) -> dict[str, object]:
    """Return the whole `chat.completion` object."""
    with lifecycle.running_answer():
        answer = await chat.start(call.request, facts=context.log)
        async with aclosing(answer):
            context.notices.extend(answer.notices)
            text: list[str] = []
            last: ChatDelta | None = None
            async for last in answer:
                text.append(last.text)
        if last is None or last.finish_reason is None or last.usage is None:
            raise InternalError
        completion = completion_object(
            completion_id=call.request.request_id,
            created=int(time.time()),
            model=answer.model,
            fingerprint=system_fingerprint(chat.model),
            text="".join(text),
            finish_reason=last.finish_reason,
            usage=last.usage,
        )
        if call.report:
            completion["sightline"] = report_object(context.notices, answer.images, context.log)
        return completion


async def _stream(
    chat: Chat, call: ChatCall, context: RequestContext, lifecycle: Lifecycle
) -> AsyncGenerator[bytes, None]:
    """Yield the blocks of the stream up to `[DONE]`. Nothing is yielded before the first delta."""
    with lifecycle.running_answer():
        created = int(time.time())
        answer = await chat.start(call.request, streaming=True, facts=context.log)
        async with aclosing(answer):
            context.notices.extend(answer.notices)
            chunks = ChunkWriter(
                completion_id=call.request.request_id,
                created=created,
                model=answer.model,
                fingerprint=system_fingerprint(chat.model),
                include_usage=call.include_usage,
            )
            head = block(chunks.role())
            last: ChatDelta | None = None
            async for last in answer:
                # The role goes out with the first text: one write less before the first word.
                if last.text:
                    yield head + block(chunks.text(last.text))
                    head = b""
        if last is None or last.finish_reason is None or last.usage is None:
            raise InternalError
        finish = chunks.finish(last.finish_reason)
        if call.report:
            finish["sightline"] = report_object(context.notices, answer.images, context.log)
        yield head + block(finish)
        if call.include_usage:
            yield block(chunks.usage(last.usage))
