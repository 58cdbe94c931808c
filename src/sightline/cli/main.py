"""The `sightline` command. Commands import what they need when they run, so help is instant."""

import errno
import io
import os
import sys
from typing import Annotated

import typer

from sightline.cli import (
    ask,
    bench,
    catalogue,
    chat,
    config,
    doctor,
    fit,
    inspect,
    keys,
    models,
    pull,
    quantize,
    serve,
    version,
)
from sightline.cli.terminal import EXIT_DISK_FULL, EXIT_FAILED, fail
from sightline.core.errors import shorten
from sightline.settings import language

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

COMMANDS = (
    serve,
    ask,
    chat,
    models,
    pull,
    quantize,
    doctor,
    inspect,
    fit,
    keys,
    bench,
    config,
    version,
)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character shows a question mark instead of a traceback.
            stream.reconfigure(errors="replace")
    chosen, arguments = take_language(sys.argv[1:])
    catalogue.use(language(chosen))
    try:
        try:
            build()(args=arguments, prog_name="sightline")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and error.errno not in DISK_FULL:
            raise
        # What is still waiting to be written would be tried once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader left; there is nobody to tell
            raise SystemExit(EXIT_FAILED) from None
        fail(catalogue.text("output.full"), status=EXIT_DISK_FULL)


def build() -> typer.Typer:
    """Build the application in the language the catalogue was told to use."""
    app = typer.Typer(
        help=catalogue.text("app.help"),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        lang: Annotated[
            str | None, typer.Option(metavar="zh|en", help=catalogue.text("lang.help"))
        ] = None,
        show_version: Annotated[
            bool,
            typer.Option(
                "--version",
                help=catalogue.text("version.help"),
                callback=version.show_and_exit,
                is_eager=True,
            ),
        ] = False,
    ) -> None:
        # `--lang` is taken before the commands are built; here it is only named in the help.
        del lang, show_version

    for module in COMMANDS:
        module.register(app)
    return app


def take_language(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Take `--lang X` out of the arguments, wherever it stands before a `--`.

    It must be known before the commands are built, because their help is in that language.
    """
    chosen = None
    rest: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        if argument == "--":
            rest += [argument, *pending]
        elif argument == "--lang":
            chosen = next(pending, None)
        elif argument.startswith("--lang="):
            chosen = argument.removeprefix("--lang=")
        else:
            rest.append(argument)
    if chosen is not None and chosen not in ("zh", "en"):
        fail(f"--lang: {shorten(chosen)!r} is not one of zh, en.")
    return chosen, rest
