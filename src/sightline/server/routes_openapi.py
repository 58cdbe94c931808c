"""`GET /openapi.json`: what this very server takes and gives. Behind the keys."""

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.errors import Unavailable
from sightline.server import ascii_json
from sightline.server.contract import Chat
from sightline.server.openapi.document import openapi_document
from sightline.server.options import ServerOptions
from sightline.server.router import Router


def openapi_router(chat: Chat, options: ServerOptions, *, needs_key: bool) -> Router:
    router = Router()

    @router.get("/openapi.json")
    async def openapi(_: Request) -> Response:
        document = openapi_document(options.limits, model=_model_id(chat), needs_key=needs_key)
        return Response(ascii_json.encode(document), media_type="application/json")

    return router


def _model_id(chat: Chat) -> str | None:
    """Return the name for the examples; None while there is no model."""
    try:
        return chat.model.id
    except Unavailable:
        return None
