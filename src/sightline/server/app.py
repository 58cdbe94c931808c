"""The HTTP application, put together. Starting and stopping what is behind it is not its job."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from sightline.core.errors import RequestError, shorten
from sightline.core.held_bytes import HeldBytes
from sightline.server.anthropic.routes import anthropic_router
from sightline.server.auth import OPEN_PATHS, KeyGuard
from sightline.server.completions.routes import completions_router
from sightline.server.context import context_of
from sightline.server.contract import Chat
from sightline.server.cors import Cors, checked_origins
from sightline.server.envelope import Envelope
from sightline.server.error_map import error_response
from sightline.server.host_guard import HostGuard
from sightline.server.keys import KeyRing
from sightline.server.lifecycle import Lifecycle
from sightline.server.metrics_route import metrics_router
from sightline.server.ollama.routes import ollama_router
from sightline.server.openai.routes import chat_router
from sightline.server.ops import ops_router
from sightline.server.options import ServerOptions
from sightline.server.paths import CollapseSlashes
from sightline.server.recent import RecentRequests
from sightline.server.responses.routes import responses_router
from sightline.server.routes_files import files_router
from sightline.server.routes_models import models_router
from sightline.server.routes_openapi import openapi_router
from sightline.server.routes_pictures import pictures_router
from sightline.server.routes_site import Site, page_instead_of_401, site_router
from sightline.server.routes_status import status_router
from sightline.server.tokens.routes import tokens_router

_OTHER_MODELS = {
    "embeddings": "embeddings",
    "embed": "embeddings",
    "rerank": "ranking",
    "transcriptions": "audio",
}


def create_app(
    chat: Chat,
    *,
    options: ServerOptions | None = None,
    lifecycle: Lifecycle | None = None,
    site: Site | None = None,
) -> Starlette:
    """Return the app that serves `chat`. `lifecycle` is shared with the server that runs it.

    `site` are the pages for people; without them there is only the API.

    The layers, outermost first: ids, times, logs and errors; one spelling of paths; the Host and
    Origin of web pages; pages of named origins; keys; routes.
    """
    options = options or ServerOptions()
    lifecycle = lifecycle or Lifecycle()
    keys = KeyRing(options.api_keys) if options.key_ring is None else options.key_ring
    origins = checked_origins(options.allowed_origins)
    held_bytes = options.held_bytes or HeldBytes(options.limits.max_held_bytes)

    recent = RecentRequests(keeps_content=options.inspect_content)

    def is_open(path: str) -> bool:
        return path in OPEN_PATHS or (site is not None and site.is_open(path))

    def instead(scope: Scope) -> Response | None:
        return None if site is None else page_instead_of_401(site, scope)

    app = Starlette(
        middleware=[
            Middleware(Envelope, metrics=chat.metrics, held_bytes=held_bytes, recent=recent),
            Middleware(CollapseSlashes),
            Middleware(
                HostGuard,
                bind_host=options.bind_host,
                allowed_hosts=options.allowed_hosts,
                check_origin=not keys,
                allowed_origins=origins,
            ),
            Middleware(Cors, allowed_origins=origins),
            Middleware(KeyGuard, keys=keys, is_open=is_open, instead=instead),
        ],
        exception_handlers={HTTPException: _routing_error},
        routes=[
            *chat_router(chat, options, lifecycle).routes,
            *completions_router(chat, options, lifecycle).routes,
            *anthropic_router(chat, options, lifecycle).routes,
            *ollama_router(chat, options, lifecycle).routes,
            *responses_router(chat, options, lifecycle).routes,
            *openapi_router(chat, options, needs_key=bool(keys)).routes,
            *tokens_router(chat, options, lifecycle).routes,
            *models_router(chat).routes,
            *files_router().routes,
            *ops_router(chat, lifecycle).routes,
            *metrics_router(chat).routes,
            *pictures_router(chat, options, lifecycle).routes,
            *status_router(chat, recent).routes,
            *(site_router(site).routes if site is not None else ()),
        ],
    )
    app.router.redirect_slashes = False
    return app


async def _routing_error(request: Request, error: Exception) -> Response:
    """Say in OpenAI form what the router only says with a status: no such path, no such method."""
    assert isinstance(error, HTTPException)
    context = context_of(request.scope)
    method, path = shorten(request.method, 16), shorten(request.scope["path"])
    allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
    if error.status_code == 405 and allowed:
        refusal = RequestError(
            f"{method} is not allowed on {path}; allowed: {allowed}.", code="method_not_allowed"
        )
    else:
        kind = _OTHER_MODELS.get(request.scope["path"].rpartition("/")[2])
        hint = f"No model for {kind} is loaded." if kind else "Try /v1/chat/completions."
        refusal = RequestError(f"Unknown request URL: {method} {path}. {hint}", code="unknown_url")
    context.log["error"] = refusal.code
    response = error_response(refusal, context.request_id, request.scope["path"])
    if allowed:
        response.headers["allow"] = allowed
    return response
