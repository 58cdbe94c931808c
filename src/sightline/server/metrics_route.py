"""`GET /metrics` for Prometheus, behind the keys like everything that tells of others' use."""

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from sightline.core.engine import EngineStats
from sightline.core.errors import SightlineError
from sightline.server.contract import Chat
from sightline.server.router import Router

STATS_TIMEOUT_S = 2.0


def metrics_router(chat: Chat) -> Router:
    router = Router()

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        page, media_type = chat.metrics.render(
            request.headers.get("accept", ""), await engine_stats(chat), chat.queue_numbers
        )
        return Response(page, headers={"content-type": media_type})

    return router


async def engine_stats(chat: Chat) -> EngineStats | None:
    """Return the engine's numbers; None when it is not up, or too busy to say."""
    try:
        async with asyncio.timeout(STATS_TIMEOUT_S):
            return await chat.engine_stats()
    except (SightlineError, TimeoutError):
        return None
