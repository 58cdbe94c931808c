"""Saving a model in 8 or 4 bits, so that it need not be quantised each time it is loaded."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from sightline.cli import catalogue
from sightline.cli.options import takes_settings
from sightline.cli.terminal import ProgressBar, ends_cleanly
from sightline.settings import Settings


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("quantize.help"))
    @ends_cleanly
    @takes_settings("model_dir", "quantization", "quantization_vision")
    def quantize(
        settings: Settings,
        model: Annotated[
            str, typer.Argument(metavar="MODEL", help=catalogue.text("quantize.model"))
        ],
        out: Annotated[Path, typer.Argument(metavar="OUT", help=catalogue.text("quantize.out"))],
    ) -> None:
        # `model` reached the settings as a flag.
        from sightline.cli.downloading import size
        from sightline.plan import quantize as write

        bar = ProgressBar(catalogue.text("quantize.writing", model=model))
        try:
            written = write(settings, out, bar.update)
        finally:
            bar.clear()
        print(
            catalogue.text(
                "quantize.done",
                out=out,
                kind=written.quantization,
                size=size(written.size_bytes),
                command=f"sightline serve {shlex.quote(str(out))}",
            )
        )
