"""The routes of one part of the API, as decorators of their handlers."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


class Router:
    """Collects `routes`. Handlers take the request and read and answer it themselves."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def post(self, path: str) -> Callable[[Handler], Handler]:
        return self.route(path, "POST")

    def get(self, path: str) -> Callable[[Handler], Handler]:
        return self.route(path, "GET", "HEAD")

    def route(self, path: str, *methods: str) -> Callable[[Handler], Handler]:
        def add(handler: Handler) -> Handler:
            self.routes.append(Route(path, handler, methods=methods))
            return handler

        return add
