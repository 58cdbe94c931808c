"""Servers as processes, and pictures on another loopback port."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from pictures import red_circle
from served import Served, serving

Serve = Callable[..., AbstractContextManager[Served]]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Return a function that starts a server with the given arguments, as a context manager."""

    def start(*arguments: str) -> AbstractContextManager[Served]:
        return serving(tmp_path_factory.mktemp("home"), *arguments)

    return start


@pytest.fixture(scope="module")
def demo(serve: Serve) -> Iterator[Served]:
    """The bundled model, served as `./run` serves it, but with pictures from loopback allowed."""
    with serve("--allow-media-host", "127.0.0.1") as served:
        yield served


@pytest.fixture(scope="module")
def picture_url() -> Iterator[str]:
    """The address of a red circle, served from another loopback port."""
    data = red_circle()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "image/png")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/circle.png"
        server.shutdown()
        thread.join()
