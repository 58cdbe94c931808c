from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli import catalogue
from sightline.cli.columns import padded
from sightline.cli.options import takes_settings
from sightline.cli.pull import remove_model
from sightline.cli.terminal import ends_cleanly, fail, print_json, printable
from sightline.settings import Settings, hub_caches

if TYPE_CHECKING:
    from sightline.hub import LocalModel

# `models rm MODEL` is what `rm MODEL` is: people look for it here.
_RM = Path("rm")


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("models.help"))
    @ends_cleanly
    @takes_settings("model_dir")
    def models(
        settings: Settings,
        folders: Annotated[
            list[Path] | None,
            typer.Argument(metavar="FOLDER...", help=catalogue.text("models.folders")),
        ] = None,
        every: Annotated[bool, typer.Option("--all", help=catalogue.text("models.all"))] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help=catalogue.text("inspect.json"))
        ] = False,
    ) -> None:
        if folders and folders[0] == _RM and not _RM.is_dir():
            if len(folders) == 1:
                fail(catalogue.text("rm.which"))
            for folder in folders[1:]:
                remove_model(str(folder), settings)
            return
        if every:
            known = _known()
            if as_json:
                print_json([row for _, row in known])
            else:
                print("\n".join(line for line, _ in known))
            return
        from sightline.hub import find_models
        from sightline.hub.caches import cached_models
        from sightline.plan import bundled_model, model_folders

        searched = [*(folders or []), *model_folders(settings)]
        bundled = bundled_model()
        found = [*find_models(searched), *cached_models(hub_caches())]
        if as_json:
            print_json([_row(model) for model in ([bundled] if bundled else []) + found])
            return
        if bundled is not None:
            kind = catalogue.text("models.bundled")
            print(_line(bundled.name, bundled.size_bytes, bundled.model_type, kind))
        for model in found:
            place = f"{model.path}  {model.licence}" if model.licence else str(model.path)
            kind = f"{model.model_type} {model.quantization or ''}".rstrip()
            if model.problem is not None:
                reason = catalogue.error(model.problem)
                place = catalogue.text("models.incomplete", folder=model.path, reason=reason)
            print(_line(model.name, model.size_bytes, kind, place))
        if not found:
            names = ", ".join(str(folder) for folder in searched)
            print(catalogue.text("models.none", folders=names))


def _known() -> list[tuple[str, dict[str, object]]]:
    """Return a line and a row of JSON for every model that has a name."""
    from sightline.hub.facts import all_known
    from sightline.hub.names import KNOWN_MODELS
    from sightline.models.facts import ITEM_BYTES

    found = []
    for known, named in zip(KNOWN_MODELS, all_known(), strict=True):
        weight = named.facts.num_parameters * ITEM_BYTES[named.facts.dtype]
        gigabytes = f"{weight / 1e9:.1f} GB"
        line = f"{known.name:<18} {gigabytes:>8}  {known.huggingface:<31} {known.licence}"
        found.append((line, {"size_bytes": weight, **asdict(known)}))
    return found


def _row(model: "LocalModel") -> dict[str, object]:
    problem = None if model.problem is None else catalogue.error(model.problem)
    return {**asdict(replace(model, problem=None)), "path": str(model.path), "problem": problem}


def _line(name: str, size_bytes: int, model_type: str, place: str) -> str:
    line = f"{padded(name, 28)} {size_bytes / 1e6:>10,.1f} MB  {model_type:<12} {place}"
    return printable(line).replace("\n", " ")
