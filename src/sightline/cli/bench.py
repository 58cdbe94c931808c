import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.cli import catalogue
from sightline.cli.options import takes_settings
from sightline.cli.terminal import EXIT_FAILED, ends_cleanly, fail, note, printable
from sightline.core.errors import shorten
from sightline.settings import Settings

REQUESTS_PER_ASKER = 8
OPEN_LOOP_S = 20
IMAGES = ("none", "distinct", "same")


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("bench.help"))
    @ends_cleanly
    @takes_settings("api_key")
    def bench(
        settings: Settings,
        url: Annotated[str, typer.Argument(metavar="URL", help=catalogue.text("bench.url"))],
        model: Annotated[
            str | None, typer.Option(metavar="TEXT", help=catalogue.text("bench.model"))
        ] = None,
        concurrency: Annotated[
            str, typer.Option(metavar="N,N...", help=catalogue.text("bench.concurrency"))
        ] = "1,8",
        rate: Annotated[
            str | None, typer.Option(metavar="X,X...", help=catalogue.text("bench.rate"))
        ] = None,
        requests: Annotated[
            int | None, typer.Option(min=1, metavar="N", help=catalogue.text("bench.requests"))
        ] = None,
        words: Annotated[
            int, typer.Option(min=1, metavar="N", help=catalogue.text("bench.words"))
        ] = 128,
        max_tokens: Annotated[
            int, typer.Option(min=1, metavar="N", help=catalogue.text("bench.max_tokens"))
        ] = 64,
        images: Annotated[
            str, typer.Option(metavar="|".join(IMAGES), help=catalogue.text("bench.images"))
        ] = "none",
        image_size: Annotated[
            int,
            typer.Option(min=28, max=8192, metavar="N", help=catalogue.text("bench.image_size")),
        ] = 448,
        seed: Annotated[str, typer.Option(metavar="TEXT", help=catalogue.text("bench.seed"))] = "0",
        extra: Annotated[
            str | None, typer.Option(metavar="JSON", help=catalogue.text("bench.extra"))
        ] = None,
        json_file: Annotated[
            Path | None,
            typer.Option("--json", metavar="FILE", help=catalogue.text("bench.json")),
        ] = None,
        plot_file: Annotated[
            Path | None,
            typer.Option("--plot", metavar="FILE", help=catalogue.text("bench.plot")),
        ] = None,
    ) -> None:
        from sightline.client.bench import Load, Work, measure
        from sightline.client.bench_report import markdown, plot, to_json

        api_key = settings.server.api_key[0] if settings.server.api_key else None
        if images not in IMAGES:
            fail(f"--images: {shorten(images)!r} is not one of {', '.join(IMAGES)}.")
        for file in (json_file, plot_file):
            _must_be_writable(file)
        work = Work(
            model=_model_of(url, api_key, model),
            num_words=words,
            max_tokens=max_tokens,
            images=images,  # type: ignore[arg-type]
            image_size=image_size,
            key=seed,
            extra=_object(extra),
        )
        if rate is None:
            loads = [
                Load(num_requests=requests or REQUESTS_PER_ASKER * int(n), concurrency=int(n))
                for n in _numbers("--concurrency", concurrency, int)
            ]
        else:
            loads = [
                Load(num_requests=requests or max(1, round(OPEN_LOOP_S * n)), rate=n)
                for n in _numbers("--rate", rate, float)
            ]
        note(catalogue.text("bench.warming"))
        (warm,) = measure(url, work, [Load(num_requests=1)], api_key=api_key)
        if warm.first_error:
            fail(printable(warm.first_error), status=EXIT_FAILED)
        reports = measure(
            url,
            replace(work, key=f"{seed}/measured"),  # what warmed up must not be a cache hit
            loads,
            api_key=api_key,
            on_report=lambda report: note(f"{report.load.label}: {report.tokens_per_s:.1f} tok/s"),
        )
        print(printable(markdown(reports)))
        if json_file:
            json_file.write_text(to_json(work, reports))
        if plot_file:
            plot(reports, plot_file)


def _must_be_writable(file: Path | None) -> None:
    """Fail before the measurement, not after it."""
    if file is None:
        return
    try:
        file.open("ab").close()
    except OSError as error:
        fail(catalogue.text("bench.unwritable", file=file, why=error.strerror or str(error)))


def _model_of(url: str, api_key: str | None, named: str | None) -> str:
    """Return the model that was named, or the server's first, when the server has loaded it."""
    from sightline.cli.answering import wait_while_loading
    from sightline.client.chat import Client

    with Client(url, api_key=api_key) as client:
        wait_while_loading(client)
        cards = [] if named else client.models()
    if named:
        return named
    if not cards:
        fail(catalogue.text("bench.no_model", url=url), status=EXIT_FAILED)
    return cards[0].id


def _numbers(option: str, value: str, kind: type[int] | type[float]) -> list[float]:
    try:
        numbers = [kind(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < 1e6 for number in numbers):
        fail(catalogue.text("bench.malformed", option=option, value=shorten(value)))
    return list(numbers)


def _object(value: str | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        parsed = json.loads(value)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        fail(catalogue.text("bench.extra_malformed", value=shorten(value)))
    return parsed
