"""Downloading a model, and removing it."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sightline.cli import catalogue
from sightline.cli.terminal import ends_cleanly, fail, note
from sightline.core.errors import StartupError
from sightline.settings import resolve

if TYPE_CHECKING:
    from sightline.hub.pull import Download


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("pull.help"))
    @ends_cleanly
    def pull(
        model: Annotated[str, typer.Argument(metavar="MODEL", help=catalogue.text("pull.model"))],
        hub: Annotated[
            Literal["huggingface", "modelscope"] | None,
            typer.Option("--from", help=catalogue.text("pull.from")),
        ] = None,
        into: Annotated[Path | None, typer.Option(help=catalogue.text("pull.into"))] = None,
        offline: Annotated[bool, typer.Option(help=catalogue.text("pull.offline"))] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help=catalogue.text("pull.quiet"))
        ] = False,
    ) -> None:
        from sightline.cli.downloading import download, fit_line, size
        from sightline.hub.names import find_model

        known = find_model(model)

        def say_whether_it_fits(_: "Download") -> None:
            # Here it is only said: the model may be for another machine.
            try:
                line = fit_line(resolve({"model": model}))
            except StartupError as error:
                line = "  " + catalogue.error(error.code, error.message, dict(error.values))
            if line and not quiet:
                note(line)

        pulled = download(
            known, hub=hub, into=into, offline=offline, quiet=quiet, before=say_whether_it_fits
        )
        if quiet:
            return
        if pulled.hub is None:
            print(catalogue.text("pull.there", model=known.name, folder=pulled.folder))
        else:
            shown = size(pulled.size_bytes)
            print(catalogue.text("pull.done", model=known.name, size=shown, hub=pulled.hub))

    @app.command(help=catalogue.text("rm.help"))
    @ends_cleanly
    def rm(
        model: Annotated[str, typer.Argument(metavar="MODEL", help=catalogue.text("rm.model"))],
    ) -> None:
        from sightline.cli.downloading import models_dir, size
        from sightline.hub.names import find_model

        name = find_model(model).name
        folders = [models_dir() / name, models_dir() / f".partial-{name}"]
        there = [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]
        if not there:
            fail(catalogue.text("rm.nothing", model=name, folder=models_dir()))
        for folder in there:
            weight = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            shutil.rmtree(folder)
            print(catalogue.text("rm.done", folder=folder, size=size(weight)))
