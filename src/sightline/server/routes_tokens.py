"""Counting without answering: `POST /v1/chat/completions/input_tokens`."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from sightline.server import ascii_json
from sightline.server.context import context_of
from sightline.server.contract import Chat
from sightline.server.intake import read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.openai_convert import count_object
from sightline.server.options import ServerOptions
from sightline.server.routes_chat import read_chat


def tokens_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/chat/completions/input_tokens")
    @router.post("/chat/completions/input_tokens")
    async def count_chat_tokens(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        call = await read_call(request, options, read_chat)
        context.notices.extend(call.notices)
        measure = await chat.measure(call.request)
        context.notices.extend(measure.notices)
        return Response(ascii_json.encode(count_object(measure)), media_type="application/json")

    return router
