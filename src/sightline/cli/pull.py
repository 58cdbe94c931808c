"""Downloading a model, and removing it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sightline.cli import catalogue
from sightline.cli.terminal import ends_cleanly, fail, note
from sightline.core.errors import StartupError, shorten
from sightline.settings import Settings, hub_caches, resolve

if TYPE_CHECKING:
    from sightline.hub.pull import Download


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("pull.help"))
    @ends_cleanly
    def pull(
        model: Annotated[str, typer.Argument(metavar="MODEL", help=catalogue.text("pull.model"))],
        hub: Annotated[
            Literal["huggingface", "modelscope"] | None,
            typer.Option(
                "--from", metavar="huggingface|modelscope", help=catalogue.text("pull.from")
            ),
        ] = None,
        into: Annotated[
            Path | None, typer.Option(metavar="FOLDER", help=catalogue.text("pull.into"))
        ] = None,
        offline: Annotated[bool, typer.Option(help=catalogue.text("pull.offline"))] = False,
        verify: Annotated[
            bool, typer.Option("--verify", help=catalogue.text("pull.verify"))
        ] = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help=catalogue.text("pull.quiet"))
        ] = False,
    ) -> None:
        from sightline.cli.downloading import download, fit_line, models_dir, size, verify_model
        from sightline.hub.caches import cached_model
        from sightline.hub.local import repository_of, spelled_path
        from sightline.hub.names import find_model
        from sightline.hub.pull import name_of_download

        into = None if into is None else spelled_path(str(into))
        if verify:
            # Also by the name of its folder, which is what `models` and `serve` call it.
            folder = (into or models_dir()) / name_of_download(model, into or models_dir())
            if folder.is_dir():
                whose = find_model(repository_of(folder) or model)
                verify_model(whose, folder, hub=hub, offline=offline, quiet=quiet)
                return
        known = find_model(model)
        if into is None and hub is None and not (models_dir() / known.name).exists():
            cached = cached_model(model, hub_caches())
            if cached is not None:
                if not quiet:
                    print(catalogue.text("pull.there", model=known.name, folder=cached))
                return

        def say_whether_it_fits(_: "Download") -> None:
            # Here it is only said: the model may be for another machine.
            try:
                line = fit_line(resolve({"model": model}))
            except StartupError as error:
                line = "  " + catalogue.error(error)
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
            name = known.name
            if into is not None:
                name += f" --model-dir {shlex.quote(str(into))}"
            print(
                catalogue.text(
                    "pull.done",
                    model=known.name,
                    size=size(pulled.size_bytes),
                    hub=pulled.hub,
                    command=f"sightline serve {name}",
                )
            )

    @app.command(help=catalogue.text("rm.help"))
    @ends_cleanly
    def rm(
        models: Annotated[
            list[str], typer.Argument(metavar="MODEL...", help=catalogue.text("rm.model"))
        ],
    ) -> None:
        for model in models:
            remove_model(model)


def remove_model(model: str, settings: Settings | None = None) -> None:
    """Remove a download and say what is gone. Ends the program where there is nothing."""
    from sightline.cli.downloading import models_dir, size
    from sightline.hub.pull import name_of_download, remove

    try:
        name = name_of_download(model, models_dir())
    except StartupError:
        _say_where_it_is(model, settings)
        raise
    removed = remove(name, models_dir())
    if not removed:
        _say_where_it_is(model, settings)
        fail(catalogue.text("rm.nothing", model=name, folder=models_dir()))
    for folder, weight in removed:
        print(catalogue.text("rm.done", folder=folder, size=size(weight)))


def _say_where_it_is(model: str, settings: Settings | None) -> None:
    """End the program if the model is here, and is none that `pull` put among the downloads."""
    from sightline.demo import MODEL_ID
    from sightline.hub import find_models
    from sightline.plan import model_folders

    if model == MODEL_ID:
        fail(catalogue.text("rm.bundled", model=model))
    for found in find_models(model_folders(settings or resolve())):
        if found.name == model.rstrip("/"):
            fail(catalogue.text("rm.elsewhere", model=shorten(model), folder=found.path))
