"""Health and version, open without a key. Ready means that an answer could start now."""

from starlette.requests import Request
from starlette.responses import Response

import sightline
from sightline.core.errors import Unavailable
from sightline.server import ascii_json
from sightline.server.contract import Chat
from sightline.server.lifecycle import Lifecycle
from sightline.server.router import Router


def ops_router(chat: Chat, lifecycle: Lifecycle) -> Router:
    router = Router()

    @router.get("/v1/health/live")
    @router.get("/health/live")
    async def live(_: Request) -> Response:
        return _json({"status": "live"})

    @router.get("/v1/health")
    @router.get("/health")
    @router.get("/v1/health/ready")
    @router.get("/health/ready")
    @router.get("/v1/ready")
    @router.get("/ready")
    async def ready(_: Request) -> Response:
        lifecycle.refuse_when_draining()
        model = chat.model  # raises while the model is loaded for the first time
        if not chat.is_ready:
            raise Unavailable("The engine is being restarted.", code="engine_restarting")
        return _json({"status": "ready", "model": model.id})

    @router.get("/v1/version")
    @router.get("/version")
    async def version(_: Request) -> Response:
        return _json({"name": "sightline", "version": sightline.__version__})

    return router


def _json(value: object) -> Response:
    return Response(ascii_json.encode(value), media_type="application/json")
