import re
from typing import Annotated, Any

import typer

from sightline.cli import catalogue
from sightline.cli.options import takes_settings
from sightline.cli.terminal import ends_cleanly, fail, note
from sightline.settings import Settings

# Where to ask, and, when no server answers, what to start.
OPTIONS = (
    "url",
    "api_key",
    "model",
    "model_dir",
    "offline",
    "force",
    "engine",
    "device",
    "dtype",
    "quantization",
    "quantization_vision",
    "threads",
    "fetch",
    "allow_media_host",
)


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("ask.help"), no_args_is_help=True)
    @ends_cleanly
    @takes_settings(*OPTIONS)
    def ask(
        settings: Settings,
        arguments: Annotated[
            list[str],
            typer.Argument(metavar="IMAGE... QUESTION", help=catalogue.text("ask.arguments")),
        ],
        max_tokens: Annotated[
            int | None, typer.Option(min=1, metavar="N", help=catalogue.text("ask.max_tokens"))
        ] = None,
        temperature: Annotated[
            float | None,
            typer.Option(min=0, max=2, metavar="X", help=catalogue.text("ask.temperature")),
        ] = None,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help=catalogue.text("ask.verbose"))
        ] = False,
    ) -> None:
        from sightline.cli.answering import answerer

        message = user_message(*pictures_and_question(arguments), settings)
        with answerer(settings) as answering:
            exchange = answering.answer([message], max_tokens=max_tokens, temperature=temperature)
        if exchange.finish_reason == "length":
            note(catalogue.text("ask.cut"))
        if verbose:
            note(exchange.statistics)


def pictures_and_question(arguments: list[str]) -> tuple[list[str], str]:
    """Split the arguments: the last one is the question unless it names a picture.

    A question may also stand before the pictures, if it is of several words or ends as one.
    """
    from sightline.cli.pictures import SUFFIXES, looks_like_picture

    if looks_like_picture(arguments[-1]):
        first, *others = arguments
        names_a_file = looks_like_picture(first) or first.lower().endswith(tuple(SUFFIXES))
        if not names_a_file and re.search(r"\S\s+\S|[?？。]\s*$", first):
            return others, first
        return arguments, catalogue.text("ask.question")
    *pictures, question = arguments
    if not question.strip():
        if not pictures:
            fail(catalogue.text("ask.nothing"))
        question = catalogue.text("ask.question")
    return pictures, question


def user_message(pictures: list[str], question: str, settings: Settings) -> dict[str, Any]:
    from sightline.cli.pictures import read_picture
    from sightline.client.wire import image_part, text_part

    read = [read_picture(name, settings.limits) for name in pictures]
    parts = [*(image_part(picture.source) for picture in read), text_part(question)]
    return {"role": "user", "content": parts}
