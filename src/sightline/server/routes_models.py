"""`GET /v1/models` and `GET /v1/models/{id}`; ids may contain slashes."""

import time

from starlette.requests import Request
from starlette.responses import Response

from sightline.server import ascii_json
from sightline.server.contract import Chat
from sightline.server.openai.convert import model_object
from sightline.server.router import Router
from sightline.service.caller import current_caller


def models_router(chat: Chat) -> Router:
    router = Router()
    created = int(time.time())

    @router.get("/v1/models")
    @router.get("/models")
    async def list_models(_: Request) -> Response:
        models = [] if (model := chat.model.for_caller()) is None else [model]
        listed = {"object": "list", "data": [model_object(each, created) for each in models]}
        return Response(ascii_json.encode(listed), media_type="application/json")

    @router.get("/v1/models/{name:path}")
    @router.get("/models/{name:path}")
    async def retrieve_model(request: Request) -> Response:
        model = chat.model
        name = request.path_params["name"]
        model.require_name(name)
        current_caller.get().require_model(name)
        shown = model_object(model.for_caller() or model, created)
        return Response(ascii_json.encode(shown), media_type="application/json")

    return router
