"""Where `ask` and `chat` get their answers: a server that is up, or a model started for them."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sightline.cli import catalogue
from sightline.cli.terminal import EXIT_FAILED, ProgressBar, fail, note, printable
from sightline.client.chat import Client, State
from sightline.client.errors import ServerUnreachable
from sightline.client.wire import Message, Usage
from sightline.settings import Settings

PROBE_TIMEOUT_S = 1.0


@dataclass(slots=True)
class Exchange:
    """One answer as it was shown, with its timings in seconds."""

    text: str = field(default="", repr=False)
    ttft_s: float = 0.0
    total_s: float = 0.0
    finish_reason: str | None = None
    usage: Usage | None = None

    @property
    def statistics(self) -> str:
        usage = self.usage or Usage(prompt_tokens=0, completion_tokens=0)
        decode_s = self.total_s - self.ttft_s
        # The first token belongs to the time before it.
        rate = (usage.completion_tokens - 1) / decode_s if decode_s > 0 else 0.0
        return catalogue.text(
            "ask.statistics",
            ttft=self.ttft_s,
            rate=max(rate, 0.0),
            image_tokens=usage.image_tokens,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            total=self.total_s,
        )


@dataclass(frozen=True, slots=True)
class Answerer:
    """A server and the name of the model on it that is asked."""

    client: Client
    model: str

    def answer(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> Exchange:
        """Write the answer to standard output as it grows, and return it."""
        exchange = Exchange()
        began = time.monotonic()
        chunks = self.client.stream(
            messages, model=self.model, max_tokens=max_tokens, temperature=temperature
        )
        for chunk in chunks:
            if chunk.text:
                if not exchange.text:
                    exchange.ttft_s = time.monotonic() - began
                exchange.text += chunk.text
                sys.stdout.write(printable(chunk.text))
                sys.stdout.flush()
            exchange.finish_reason = chunk.finish_reason or exchange.finish_reason
            exchange.usage = chunk.usage or exchange.usage
        exchange.total_s = time.monotonic() - began
        sys.stdout.write("\n")
        sys.stdout.flush()
        return exchange


@contextmanager
def answerer(settings: Settings) -> Iterator[Answerer]:
    """Use the server at the `url` setting if it answers; else start the model for this command.

    A server that was named on purpose is asked in any case, with all the patience it needs: the
    pictures were meant for it and for nobody else. Otherwise a model that was named on purpose is
    started, unless the server has it.
    """
    url, wanted = settings.client.url, settings.model.model
    key = settings.server.api_key[0] if settings.server.api_key else None
    with Client(url, api_key=key) as client:
        state = wait_while_loading(client)
        if settings.origin("url") != "default":
            yield Answerer(client, wanted or _model_of(client))
            return
        names = _model_names(client) if state == "ready" else []
        if names and (not wanted or wanted in names):
            yield Answerer(client, wanted or names[0])
            return
    reason = "server.other_model" if names else "server.starting"
    note(catalogue.text(reason, url=url, model=wanted))
    with _own_server(settings) as own:
        yield own


def wait_while_loading(client: Client) -> State:
    def tell() -> None:
        note(catalogue.text("server.loading", url=client.url))

    return client.wait_while_loading(timeout_s=PROBE_TIMEOUT_S, on_wait=tell)


def _model_of(client: Client) -> str:
    """Return the first model of a server; without one, or without an answer, end the command."""
    try:
        names = _model_names(client)
    except ServerUnreachable:
        fail(catalogue.text("server.unreachable", url=client.url), status=EXIT_FAILED)
    if not names:
        fail(catalogue.text("server.no_model", url=client.url), status=EXIT_FAILED)
    return names[0]


def _model_names(client: Client) -> list[str]:
    """Return every name that the server answers to, each model's own before its aliases."""
    return [name for card in client.models() for name in (card.id, *card.aliases)]


@contextmanager
def _own_server(settings: Settings) -> Iterator[Answerer]:
    from sightline.assembly import server_in_thread
    from sightline.cli.fitting import as_estimated, require_fit
    from sightline.plan import missing_model

    if missing := missing_model(settings):
        from sightline.cli.downloading import fetch_missing

        fetch_missing(missing, settings)
    settings = as_estimated(settings, require_fit(settings))
    bar = ProgressBar(catalogue.text("serve.loading", model=settings.model.model or "sightline"))
    try:
        with server_in_thread(settings, on_progress=bar.update) as server:
            bar.clear()
            with Client(server.url, api_key=server.api_key) as client:
                yield Answerer(client, server.model_id)
    finally:
        bar.clear()
