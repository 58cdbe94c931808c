"""Health and version, open without a key. Ready means that an answer could start now."""

from fastapi import APIRouter
from starlette.responses import Response

import sightline
from sightline.core.errors import Unavailable
from sightline.server import ascii_json
from sightline.server.contract import Chat
from sightline.server.lifecycle import Lifecycle


def ops_router(chat: Chat, lifecycle: Lifecycle) -> APIRouter:
    router = APIRouter()

    @router.api_route("/v1/health/live", methods=["GET", "HEAD"])
    @router.api_route("/health/live", methods=["GET", "HEAD"])
    async def live() -> Response:
        return _json({"status": "live"})

    @router.api_route("/v1/health", methods=["GET", "HEAD"])
    @router.api_route("/health", methods=["GET", "HEAD"])
    @router.api_route("/v1/health/ready", methods=["GET", "HEAD"])
    @router.api_route("/health/ready", methods=["GET", "HEAD"])
    @router.api_route("/v1/ready", methods=["GET", "HEAD"])
    @router.api_route("/ready", methods=["GET", "HEAD"])
    async def ready() -> Response:
        lifecycle.refuse_when_draining()
        model = chat.model  # raises while the model is loaded for the first time
        if not chat.is_ready:
            raise Unavailable("The engine is being restarted.", code="engine_restarting")
        return _json({"status": "ready", "model": model.id})

    @router.api_route("/v1/version", methods=["GET", "HEAD"])
    @router.api_route("/version", methods=["GET", "HEAD"])
    async def version() -> Response:
        return _json({"name": "sightline", "version": sightline.__version__})

    return router


def _json(value: object) -> Response:
    return Response(ascii_json.encode(value), media_type="application/json")
