from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.cli import catalogue
from sightline.cli.options import takes_settings
from sightline.cli.terminal import ends_cleanly, fail, note
from sightline.settings import Settings, default_key_file

if TYPE_CHECKING:
    from sightline.server.key_file import StoredKey


def register(app: typer.Typer) -> None:
    keys = typer.Typer(
        help=catalogue.text("keys.help"),
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.add_typer(keys, name="keys")
    name_argument = typer.Argument(metavar="NAME", help=catalogue.text("keys.name"))

    def rate(kind: str) -> typer.models.OptionInfo:
        option: typer.models.OptionInfo = typer.Option(
            f"--{kind}-per-minute", min=1, metavar="N", help=catalogue.text(f"keys.{kind}")
        )
        return option

    @keys.command(help=catalogue.text("keys.add.help"))
    @ends_cleanly
    @takes_settings("key_file")
    def add(
        settings: Settings,
        name: Annotated[str, name_argument],
        only_model: Annotated[
            list[str] | None, typer.Option(metavar="NAME", help=catalogue.text("keys.model"))
        ] = None,
        requests: Annotated[int | None, rate("requests")] = None,
        tokens: Annotated[int | None, rate("tokens")] = None,
        images: Annotated[int | None, rate("images")] = None,
        days: Annotated[
            int | None, typer.Option(min=1, metavar="N", help=catalogue.text("keys.days"))
        ] = None,
    ) -> None:
        from sightline.server.key_file import NAME, new_key, read_keys, write_keys
        from sightline.server.rate_limits import Rates

        path = _path(settings)
        stored = read_keys(path)
        if NAME.fullmatch(name) is None:
            fail(catalogue.text("keys.bad_name"))
        if any(key.name == name for key in stored):
            fail(catalogue.text("keys.name_taken", name=name))
        text, key = new_key(
            name,
            models=only_model or (),
            rates=Rates(requests=requests, tokens=tokens, images=images),
            expires=None if days is None else datetime.now(UTC) + timedelta(days=days),
        )
        write_keys(path, [*stored, key])
        print(text)
        note(catalogue.text("keys.added", name=name, path=path))

    @keys.command("list", help=catalogue.text("keys.list.help"))
    @ends_cleanly
    @takes_settings("key_file")
    def list_keys(settings: Settings) -> None:
        from sightline.server.key_file import read_keys

        path = _path(settings)
        stored = read_keys(path)
        if not stored:
            note(catalogue.text("keys.none", path=path))
        for key in stored:
            print(_line(key))

    @keys.command(help=catalogue.text("keys.revoke.help"))
    @ends_cleanly
    @takes_settings("key_file")
    def revoke(settings: Settings, name: Annotated[str, name_argument]) -> None:
        from sightline.server.key_file import read_keys, write_keys

        path = _path(settings)
        stored = read_keys(path)
        kept = [key for key in stored if name not in (key.name, key.key_id)]
        if len(kept) == len(stored):
            fail(catalogue.text("keys.unknown", name=name, path=path))
        write_keys(path, kept)
        print(catalogue.text("keys.revoked", name=name))


def _path(settings: Settings) -> Path:
    return settings.server.key_file or default_key_file()


def _line(key: "StoredKey") -> str:
    """One line per key: id, name, since when, and what it is bound by."""
    bounds = [
        catalogue.text("keys.rate", number=number, what=catalogue.text(f"keys.unit.{kind}"))
        for kind, number in (
            ("requests", key.rates.requests),
            ("tokens", key.rates.tokens),
            ("images", key.rates.images),
        )
        if number is not None
    ]
    if key.models is not None:
        bounds.append(catalogue.text("keys.only", models=", ".join(sorted(key.models))))
    if key.expires is not None:
        is_over = datetime.now(UTC) >= key.expires
        word = "keys.expired" if is_over else "keys.expires"
        bounds.append(catalogue.text(word, date=f"{key.expires:%Y-%m-%d}"))
    return f"{key.key_id}  {key.name:<24} {key.created:%Y-%m-%d}  {'; '.join(bounds)}".rstrip()
