"""Anthropic's dialect: `POST /v1/messages` and `POST /v1/messages/count_tokens`."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.errors import SightlineError
from sightline.server import ascii_json
from sightline.server.anthropic.answer import MessageEvents, message_object
from sightline.server.anthropic.convert import AnthropicCall, to_anthropic_call
from sightline.server.anthropic.schema import MessagesBody
from sightline.server.context import RequestContext, context_of
from sightline.server.contract import Chat
from sightline.server.error_map import error_object
from sightline.server.hangup import run_for_client
from sightline.server.intake import Terms, read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.options import ServerOptions
from sightline.server.router import Router
from sightline.server.sse import EventStream, StreamForm, named_block
from sightline.server.via_chat import Renamed, parse_body
from sightline.server.whole_answer import whole_answer

PATH = "/v1/messages"


def anthropic_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> Router:
    router = Router()

    @router.post("/v1/messages")
    @router.post("/messages")
    async def create_message(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        asked = await read_call(request, options, _understand)
        call = asked.call
        context.understood(call.request.request_id, call.notices, stream=call.stream)
        if call.stream:
            return EventStream(
                _stream(chat, asked, context, lifecycle),
                lifecycle=lifecycle,
                keep_alive_s=options.limits.keep_alive_comment_s,
                form=_FORM,
            )
        answer = await run_for_client(
            whole_answer(Renamed(chat, asked.renames), call.request, context, lifecycle),
            request.receive,
            lifecycle,
        )
        return _json(message_object(call.request.request_id, answer))

    @router.post("/v1/messages/count_tokens")
    @router.post("/messages/count_tokens")
    async def count_message_tokens(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        asked = await read_call(request, options, _understand_count)
        context.notices.extend(asked.call.notices)
        measure = await Renamed(chat, asked.renames).measure(asked.call.request)
        context.notices.extend(measure.notices)
        return _json({"input_tokens": measure.counts.total})

    return router


def _understand(body: bytes, terms: Terms, *, counting: bool = False) -> AnthropicCall:
    return to_anthropic_call(
        parse_body(MessagesBody, body, terms),
        terms,
        request_id=f"msg_{uuid.uuid4().hex}",
        counting=counting,
    )


def _understand_count(body: bytes, terms: Terms) -> AnthropicCall:
    return _understand(body, terms, counting=True)


def _error_block(error: SightlineError, request_id: str) -> bytes:
    return named_block("error", error_object(error, request_id, PATH))


_FORM = StreamForm(end=b"", error=_error_block)


async def _stream(
    chat: Chat, asked: AnthropicCall, context: RequestContext, lifecycle: Lifecycle
) -> AsyncGenerator[bytes, None]:
    """Yield the events up to `message_stop`. Nothing is yielded before the first delta."""
    request = asked.call.request
    with lifecycle.running_answer():
        answer = await Renamed(chat, asked.renames).start(
            request, streaming=True, facts=context.log
        )
        async with aclosing(answer):
            context.notices.extend(answer.notices)
            events = MessageEvents(request.request_id, answer.model, answer.counts.total)
            head = events.start()
            blocks = named_block(head["type"], head)
            async for delta in answer:
                # The head goes out with the first text: one write less before the first word.
                blocks += b"".join(named_block(e["type"], e) for e in events.of(delta))
                if blocks:
                    yield blocks
                blocks = b""


def _json(value: object) -> Response:
    return Response(ascii_json.encode(value), media_type="application/json")
