"""Counting and tokenizing without answering; nothing is fetched and nothing generated."""

import asyncio
import uuid
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from sightline.server import ascii_json
from sightline.server.context import context_of
from sightline.server.contract import Chat
from sightline.server.intake import Terms, read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.openai.convert import count_object
from sightline.server.openai.routes import read_chat
from sightline.server.options import ServerOptions
from sightline.server.renames import Renames
from sightline.server.router import Router
from sightline.server.tokens.convert import (
    DetokenizeCall,
    TokenizeCall,
    to_detokenize_call,
    to_tokenize_call,
    tokens_json,
)
from sightline.server.tokens.schema import DetokenizeBody, TokenizeBody
from sightline.server.via_chat import parse_body
from sightline.service.caller import current_caller

_PROMPT = Renames({"messages": "prompt"})


def tokens_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> Router:
    router = Router()

    @router.post("/v1/chat/completions/input_tokens")
    @router.post("/chat/completions/input_tokens")
    async def count_chat_tokens(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        call = await read_call(request, options, read_chat)
        context.notices.extend(call.notices)
        measure = await chat.measure(call.request)
        context.notices.extend(measure.notices)
        return _json(count_object(measure))

    @router.post("/v1/tokenize")
    @router.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        model = chat.model

        def understand(body: bytes, terms: Terms) -> TokenizeCall:
            return to_tokenize_call(
                parse_body(TokenizeBody, body, terms),
                terms,
                default_model=model.id,
                request_id=f"tok-{uuid.uuid4().hex}",
            )

        call = await read_call(request, options, understand)
        context.notices.extend(call.notices)
        _require_model(chat, call.model)
        vocabulary = await chat.vocabulary()
        if call.request is not None:
            measure = await chat.measure(call.request)
            context.notices.extend(measure.notices)
            ids = measure.layout.token_ids
        else:
            assert call.text is not None
            window = model.info.max_model_len
            with _PROMPT.applied():
                ids = await vocabulary.tokenize(
                    call.text, with_prefix=call.with_prefix, window=window
                )
        tell = partial(
            tokens_json,
            ids,
            vocabulary.token_strings if call.return_strings else None,
            max_model_len=model.info.max_model_len,
        )
        told = tell() if len(ids) <= ascii_json.PIECE else await asyncio.to_thread(tell)
        return Response(told, media_type="application/json")

    @router.post("/v1/detokenize")
    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()

        def understand(body: bytes, terms: Terms) -> DetokenizeCall:
            return to_detokenize_call(parse_body(DetokenizeBody, body, terms), terms)

        call = await read_call(request, options, understand)
        context.notices.extend(call.notices)
        _require_model(chat, call.model)
        vocabulary = await chat.vocabulary()
        return _json({"prompt": await vocabulary.text_of(call.token_ids, param="tokens")})

    return router


def _require_model(chat: Chat, name: str | None) -> None:
    """Raise `RequestError` unless there is such a model and the caller may use it."""
    model = chat.model
    name = (model.for_caller() or model).id if name is None else name
    model.require_name(name)
    current_caller.get().require_model(name)


def _json(value: object) -> Response:
    return Response(ascii_json.encode(value), media_type="application/json")
