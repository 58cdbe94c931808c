"""Ollama's dialect: `/api/chat`, `/api/generate`, and what clients ask about the model."""

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.chat import TokenLikelihood, Usage
from sightline.core.errors import InternalError, SightlineError
from sightline.server import ascii_json
from sightline.server.context import RequestContext, context_of
from sightline.server.contract import Chat
from sightline.server.error_map import error_object
from sightline.server.hangup import run_for_client
from sightline.server.intake import Terms, read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.ollama.answer import (
    OLLAMA_VERSION,
    Kind,
    OllamaWriter,
    running_object,
    show_object,
    tags_object,
)
from sightline.server.ollama.convert import (
    OllamaCall,
    model_name,
    to_ollama_chat,
    to_ollama_generate,
)
from sightline.server.ollama.schema import OllamaChatBody, OllamaGenerateBody, OllamaShowBody
from sightline.server.openai.convert import ChatCall
from sightline.server.openai.schema import missing_parameter
from sightline.server.options import ServerOptions
from sightline.server.router import Router
from sightline.server.sse import EventStream, StreamForm
from sightline.server.via_chat import Renamed, parse_body
from sightline.server.whole_answer import ChoiceParts, whole_answer
from sightline.service.caller import current_caller

Understand = Callable[[bytes, Terms, Collection[str]], OllamaCall]


def ollama_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> Router:
    router = Router()
    since = datetime.now(UTC)

    @router.get("/api/version")
    async def version(_: Request) -> Response:
        return _json({"version": OLLAMA_VERSION})

    @router.get("/api/tags")
    async def list_models(_: Request) -> Response:
        return _json(tags_object(chat.model.for_caller(), since))

    @router.get("/api/ps")
    async def list_running(_: Request) -> Response:
        return _json(running_object(chat.model.for_caller(), since))

    @router.post("/api/show")
    async def show(request: Request) -> Response:
        def understand(body: bytes, terms: Terms) -> OllamaShowBody:
            return parse_body(OllamaShowBody, body, terms)

        model = chat.model
        body = await read_call(request, options, understand, any_type=True)
        name = body.name if body.model is None else body.model
        if name is None:
            raise missing_parameter("model")
        asked = model_name(name, model.names)
        model.require_name(asked)
        current_caller.get().require_model(asked)
        return _json(show_object(model.for_caller() or model))

    @router.post("/api/chat")
    async def create_chat(request: Request) -> Response:
        return await answer(request, _understand_chat, "chat")

    @router.post("/api/generate")
    async def generate(request: Request) -> Response:
        return await answer(request, _understand_generate, "generate")

    async def answer(request: Request, understand: Understand, kind: Kind) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        known = chat.model.names
        asked = await read_call(
            request, options, lambda body, terms: understand(body, terms, known), any_type=True
        )
        context.notices.extend(asked.notices)
        writer = OllamaWriter(model=asked.model, kind=kind)
        if asked.call is None:
            chat.model.require_name(asked.model)
            current_caller.get().require_model(asked.model)
            return _json(writer.loaded())
        context.log["chat_id"] = asked.call.request.request_id
        context.log["stream"] = asked.stream
        if asked.stream:
            return EventStream(
                _stream(chat, asked, asked.call, writer, context, lifecycle),
                lifecycle=lifecycle,
                keep_alive_s=options.limits.keep_alive_comment_s,
                form=_FORM,
            )
        whole = _whole(chat, asked, asked.call, writer, context, lifecycle)
        return _json(await run_for_client(whole, request.receive, lifecycle))

    return router


def _understand_chat(body: bytes, terms: Terms, known: Collection[str]) -> OllamaCall:
    parsed = parse_body(OllamaChatBody, body, terms)
    return to_ollama_chat(parsed, terms, known=known, request_id=_new_id())


def _understand_generate(body: bytes, terms: Terms, known: Collection[str]) -> OllamaCall:
    parsed = parse_body(OllamaGenerateBody, body, terms)
    return to_ollama_generate(parsed, terms, known=known, request_id=_new_id())


def _new_id() -> str:
    return f"ollama-{uuid.uuid4().hex}"


async def _whole(
    chat: Chat,
    asked: OllamaCall,
    call: ChatCall,
    writer: OllamaWriter,
    context: RequestContext,
    lifecycle: Lifecycle,
) -> dict[str, Any]:
    began = time.monotonic()
    answer = await whole_answer(Renamed(chat, asked.renames), call.request, context, lifecycle)
    (choice,) = answer.choices
    first_s = context.log.get("ttft_s")
    return writer.last(
        choice.text,
        thinking=choice.reasoning,
        tool_calls=choice.tool_calls,
        logprobs=choice.logprobs,
        finish_reason=choice.finish_reason,
        usage=answer.usage,
        first_s=first_s if isinstance(first_s, float) else 0.0,
        total_s=time.monotonic() - began,
    )


async def _stream(
    chat: Chat,
    asked: OllamaCall,
    call: ChatCall,
    writer: OllamaWriter,
    context: RequestContext,
    lifecycle: Lifecycle,
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of the stream. Nothing is yielded before the first delta."""
    with lifecycle.running_answer():
        began = time.monotonic()
        answer = await Renamed(chat, asked.renames).start(
            call.request, streaming=True, facts=context.log
        )
        first_s = time.monotonic() - began
        parts = ChoiceParts()
        usage: Usage | None = None
        untold: list[TokenLikelihood] = []  # of tokens whose text is still held back
        async with aclosing(answer):
            context.notices.extend(answer.notices)
            async for delta in answer:
                parts.add(delta)
                untold.extend(delta.logprobs)
                if delta.text or delta.reasoning:
                    yield _line(writer.piece(delta.text, thinking=delta.reasoning, logprobs=untold))
                    untold.clear()
                usage = delta.usage
        if usage is None:
            raise InternalError
        choice = parts.whole()
        if choice.tool_calls:
            yield _line(writer.piece(tool_calls=choice.tool_calls))
        yield _line(
            writer.last(
                logprobs=untold,
                finish_reason=choice.finish_reason,
                usage=usage,
                first_s=first_s,
                total_s=time.monotonic() - began,
            )
        )


def _line(value: object) -> bytes:
    return ascii_json.encode(value) + b"\n"


def _error_line(error: SightlineError, request_id: str) -> bytes:
    return _line(error_object(error, request_id, "/api/chat"))


# A line that says nothing would be taken for broken JSON, so silences stay silent.
_FORM = StreamForm(media_type=b"application/x-ndjson", keep_alive=None, end=b"", error=_error_line)


def _json(value: object) -> Response:
    return Response(ascii_json.encode(value), media_type="application/json")
