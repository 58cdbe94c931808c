"""`GET /v1/models` and `GET /v1/models/{id}`; ids may contain slashes."""

import time

from fastapi import APIRouter
from starlette.responses import Response

from sightline.server import ascii_json
from sightline.server.contract import Chat
from sightline.server.openai.convert import model_object


def models_router(chat: Chat) -> APIRouter:
    router = APIRouter()
    created = int(time.time())

    @router.api_route("/v1/models", methods=["GET", "HEAD"])
    @router.api_route("/models", methods=["GET", "HEAD"])
    async def list_models() -> Response:
        listed = {"object": "list", "data": [model_object(chat.model, created)]}
        return Response(ascii_json.encode(listed), media_type="application/json")

    @router.api_route("/v1/models/{name:path}", methods=["GET", "HEAD"])
    @router.api_route("/models/{name:path}", methods=["GET", "HEAD"])
    async def retrieve_model(name: str) -> Response:
        model = chat.model
        model.require_name(name)
        return Response(
            ascii_json.encode(model_object(model, created)), media_type="application/json"
        )

    return router
