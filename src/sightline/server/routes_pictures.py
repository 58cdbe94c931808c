"""`POST /v1/pictures/preview`: what the model would see of the pictures of a chat request."""

import asyncio
import base64

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.chat import ChatRequest, ImageReport
from sightline.core.prompt import Image
from sightline.media.png import encode_png
from sightline.server import ascii_json
from sightline.server.context import context_of
from sightline.server.contract import Chat
from sightline.server.hangup import run_for_client
from sightline.server.intake import read_call
from sightline.server.lifecycle import Lifecycle
from sightline.server.openai.convert import image_object
from sightline.server.openai.routes import read_chat
from sightline.server.options import ServerOptions
from sightline.server.router import Router


def pictures_router(chat: Chat, options: ServerOptions, lifecycle: Lifecycle) -> Router:
    router = Router()

    @router.post("/v1/pictures/preview")
    @router.post("/pictures/preview")
    async def preview_pictures(request: Request) -> Response:
        context = context_of(request.scope)
        lifecycle.refuse_when_draining()
        call = await read_call(request, options, read_chat)
        context.notices.extend(call.notices)
        body = await run_for_client(_preview(chat, call.request), request.receive, lifecycle)
        return Response(body, media_type="application/json")

    return router


async def _preview(chat: Chat, request: ChatRequest) -> bytes:
    previews = await chat.preview(request)
    described = [await asyncio.to_thread(_describe, *preview) for preview in previews]
    return ascii_json.encode({"object": "list", "data": described})


def _describe(image: Image, report: ImageReport) -> dict[str, object]:
    png = encode_png(image.pixels, image.width, image.height)
    return {
        **image_object(report),
        "image_url": "data:image/png;base64," + base64.b64encode(png).decode("ascii"),
    }
