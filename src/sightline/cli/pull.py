"""Downloading a model, and removing it."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from sightline.cli import catalogue
from sightline.cli.terminal import ProgressBar, ends_cleanly, fail, note
from sightline.settings import cache_dir, hub_endpoints, hubs_are_offline


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
        from sightline.hub.names import find_model
        from sightline.hub.pull import pull as fetch
        from sightline.hub.remote import HUBS

        known = find_model(model)
        bar = ProgressBar(catalogue.text("pull.loading", model=known.name))
        if not quiet:
            note(catalogue.text("pull.licence", model=known.name, licence=known.licence))
        mirrors = hub_endpoints()
        try:
            pulled = fetch(
                known,
                into or models_dir(),
                hubs=list(HUBS) if hub is None else [hub],
                endpoints={name: mirrors[name] for name in HUBS if name in mirrors},
                progress=(lambda done, total: None) if quiet else bar.update,
                offline=offline or hubs_are_offline(),
            )
        finally:
            bar.clear()
        if quiet:
            return
        if pulled.hub is None:
            print(catalogue.text("pull.there", model=known.name, folder=pulled.folder))
        else:
            size = _size(pulled.size_bytes)
            print(catalogue.text("pull.done", model=known.name, size=size, hub=pulled.hub))

    @app.command(help=catalogue.text("rm.help"))
    @ends_cleanly
    def rm(
        model: Annotated[str, typer.Argument(metavar="MODEL", help=catalogue.text("rm.model"))],
    ) -> None:
        from sightline.hub.names import find_model

        name = find_model(model).name
        folders = [models_dir() / name, models_dir() / f".partial-{name}"]
        there = [folder for folder in folders if folder.is_dir() and not folder.is_symlink()]
        if not there:
            fail(catalogue.text("rm.nothing", model=name, folder=models_dir()))
        for folder in there:
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            shutil.rmtree(folder)
            print(catalogue.text("rm.done", folder=folder, size=_size(size)))


def models_dir() -> Path:
    """Where downloads go, and one of the folders in which models are found by name."""
    return cache_dir() / "models"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
