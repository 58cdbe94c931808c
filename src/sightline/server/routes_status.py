"""What the server page shows: the state of the server, and its last requests. Behind the keys."""

import time

from starlette.requests import Request
from starlette.responses import Response

import sightline
from sightline.core.engine import EngineStats
from sightline.core.errors import Unavailable
from sightline.server import ascii_json
from sightline.server.context import context_of
from sightline.server.contract import Chat
from sightline.server.metrics_route import engine_stats
from sightline.server.recent import RecentRequests
from sightline.server.router import Router


def status_router(chat: Chat, recent: RecentRequests) -> Router:
    router = Router()
    started = time.monotonic()

    @router.get("/v1/server/status")
    @router.get("/server/status")
    async def status(request: Request) -> Response:
        context_of(request.scope).is_quiet = True
        queue = chat.queue_numbers
        return _json(
            {
                "object": "server.status",
                "version": sightline.__version__,
                "uptime_s": round(time.monotonic() - started, 1),
                "model": _model(chat),
                "num_admitted": queue.num_admitted,
                "num_waiting": queue.num_waiting,
                "engine": _engine(await engine_stats(chat)),
                "recent_errors": recent.errors(),
            }
        )

    @router.get("/v1/server/requests")
    @router.get("/server/requests")
    async def requests(request: Request) -> Response:
        context = context_of(request.scope)
        context.is_quiet = True
        return _json(
            {
                "object": "list",
                "shows_content": recent.keeps_content,
                "data": recent.requests(reader=context.key_id),
            }
        )

    return router


def _model(chat: Chat) -> dict[str, object] | None:
    try:
        model = chat.model
    except Unavailable:
        return None
    info = model.info
    return {
        "id": model.id,
        "device": info.device,
        "dtype": info.dtype,
        "num_parameters": info.num_parameters,
        "max_model_len": info.max_model_len,
    }


def _engine(stats: EngineStats | None) -> dict[str, object] | None:
    if stats is None:
        return None
    return {
        "num_running": stats.num_running,
        "num_waiting": stats.num_waiting,
        "num_steps": stats.num_steps,
        "num_restarts": stats.num_restarts,
        "kv_slots_used": stats.kv_slots_used,
        "kv_slots_total": stats.kv_slots_total,
        "rss_bytes": stats.rss_bytes,
    }


def _json(value: object) -> Response:
    headers = {"cache-control": "no-store"}
    return Response(ascii_json.encode(value), headers=headers, media_type="application/json")
