"""The blocking client: `wire` put around httpx2."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Literal, Self

import httpx2

from sightline.client import wire
from sightline.client.errors import ClientError, ServerUnreachable
from sightline.client.wire import Answer, Chunk, Message, ModelCard

CONNECT_TIMEOUT_S = 5.0
# A server sends a comment after 15 s of silence; ten times that is a dead one.
READ_TIMEOUT_S = 150.0
# A plain answer comes in one piece after the whole of its time.
ANSWER_TIMEOUT_S = 300.0
LOOK_AGAIN_S = 0.2

State = Literal["ready", "loading", "away"]


class Client:
    """Talks to one server. Every method raises ClientError with a readable message.

    The proxies of the environment are not used: pictures go to the given address and nowhere else.

        with Client("http://127.0.0.1:8888") as client:
            for chunk in client.stream([{"role": "user", "content": "hello"}]):
                print(chunk.text, end="")
    """

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        base = url.rstrip("/").removesuffix("/v1")
        if not base.startswith(("http://", "https://")):
            raise ClientError(f"{url} is not an http or https address.")
        self.url = base
        try:
            self._http = httpx2.Client(
                base_url=base,
                headers=headers,
                timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                trust_env=False,
            )
        except (httpx2.InvalidURL, UnicodeError):
            raise ClientError(f"{url} is not a valid address.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def state(self, *, timeout_s: float) -> State:
        """Return what a sightline server says of itself within `timeout_s`; "away" if none does.

        "loading" means that it will be ready without anybody's doing.
        """
        try:
            response = self._http.get("/ready", timeout=timeout_s)
        except httpx2.HTTPError:
            return "away"
        if response.status_code == 200:
            return "ready"
        error = wire.parse_error(response.status_code, response.content)
        return "loading" if error.code in _PASSING else "away"

    def wait_while_loading(
        self, *, timeout_s: float, on_wait: Callable[[], object] = lambda: None
    ) -> State:
        """Return the `state` once it is another than "loading"; `on_wait` hears of a wait once."""
        is_told = False
        while (state := self.state(timeout_s=timeout_s)) == "loading":
            if not is_told:
                on_wait()
                is_told = True
            time.sleep(LOOK_AGAIN_S)
        return state

    def models(self) -> list[ModelCard]:
        with self._readable_errors():
            response = self._http.get("/v1/models")
        if response.status_code != 200:
            raise wire.parse_error(response.status_code, response.content)
        return wire.parse_models(response.content)

    def ask(
        self,
        messages: Sequence[Message],
        *,
        model: str,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Answer:
        """Return the whole answer at once."""
        body = wire.chat_body(
            messages, model=model, stream=False, max_tokens=max_tokens, temperature=temperature
        )
        with self._readable_errors():
            response = self._http.post(
                "/v1/chat/completions", content=body, headers=_JSON, timeout=ANSWER_TIMEOUT_S
            )
        if response.status_code != 200:
            raise wire.parse_error(response.status_code, response.content)
        return wire.parse_answer(response.content)

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Iterator[Chunk]:
        """Yield the answer as it grows. Closing the iterator ends the request on the server.

        An answer that ends without its finish reason raises ServerUnreachable.
        """
        body = wire.chat_body(
            messages, model=model, stream=True, max_tokens=max_tokens, temperature=temperature
        )
        parser = wire.EventParser()
        is_finished = False
        with (
            self._readable_errors(),
            self._http.stream(
                "POST", "/v1/chat/completions", content=body, headers=_JSON
            ) as response,
        ):
            if response.status_code != 200:
                raise wire.parse_error(response.status_code, response.read())
            for data in response.iter_bytes():
                for event in parser.feed(data):
                    if event == wire.DONE:
                        return
                    chunk = wire.parse_chunk(event)
                    is_finished = is_finished or chunk.finish_reason is not None
                    yield chunk
        if not is_finished:
            raise ServerUnreachable(f"{self.url} closed the connection before the answer ended.")

    @contextmanager
    def _readable_errors(self) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException:
            raise ServerUnreachable(f"{self.url} did not answer in time.") from None
        except httpx2.ConnectError:
            raise ServerUnreachable(f"No server answers at {self.url}.") from None
        except httpx2.HTTPError:
            raise ServerUnreachable(f"The connection to {self.url} broke.") from None


_JSON = {"content-type": "application/json"}
_PASSING = ("model_loading", "engine_restarting")
