"""Command-line options made from the rows of `settings`, so that none is written twice."""

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sightline.cli import catalogue
from sightline.core.errors import StartupError, shorten
from sightline.settings import Row, resolve, rows

# What --quantization may be told in one word.
SHORT_FORMATS = ("int8", "int4")

_METAVARS: dict[Any, str] = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option per named setting, besides its own parameters, and `--config`.

    The command receives the resolved `Settings` as its parameter `settings`. A setting called
    `model` that is not named here may be a parameter of the command: it counts as a flag too.
    Beside --quantization there are --int8 and --int4, as `fit` has them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter
            for parameter in inspect.signature(command).parameters.values()
            if parameter.name != "settings"
        ]
        own_names = {parameter.name for parameter in own}
        shorts = SHORT_FORMATS if "quantization" in names else ()

        def run(**values: Any) -> None:
            config = values.pop("config")
            limits = _limits(values.pop("limit", None) or ())
            formats = [short for short in SHORT_FORMATS if short in shorts and values.pop(short)]
            flags = {name: values[name] for name in values if name in rows()}
            flags = {name: value for name, value in flags.items() if value not in (None, [])}
            flags |= _told_short(formats, flags.get("quantization"))
            settings = resolve(flags | limits, config=config)
            command(**{name: values[name] for name in own_names}, settings=settings)

        parameters = [*own, *(_parameter(rows()[name]) for name in names)]
        parameters += [_short_parameter(name) for name in shorts]
        parameters.append(_config_parameter())
        if "host" in names:
            parameters.append(_limit_parameter())
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def names_of(*sections: str, leaving_out: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the settings of `sections`."""
    return tuple(
        row.name
        for row in rows().values()
        if row.section in sections and row.name not in leaving_out
    )


def _parameter(row: Row) -> inspect.Parameter:
    """Return the Typer parameter of a setting: text that `settings` reads, or a pair of flags."""
    kind = _kind(row)
    is_list = typing.get_origin(kind) is tuple
    what = catalogue.setting(row.name, row.what)
    if kind is bool:
        off = "--no-" + row.flag.removeprefix("--")
        option = typer.Option(None, f"{row.flag}/{off}", help=what, show_default=False)
        annotation: Any = bool | None
    else:
        metavar = _metavar(typing.get_args(kind)[0] if is_list else kind)
        option = typer.Option(None, row.flag, help=what, metavar=metavar, show_default=False)
        annotation = list[str] | None if is_list else str | None
    return inspect.Parameter(
        row.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation
    )


def _short_parameter(name: str) -> inspect.Parameter:
    option = typer.Option(f"--{name}", help=catalogue.text(f"fit.{name}"))
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )


def _told_short(formats: Sequence[str], quantization: Any) -> dict[str, str]:
    told = {*formats, *([] if quantization is None else [quantization])}
    if formats and len(told) > 1:
        given = ", ".join(f"--{name}" for name in formats)
        if quantization is not None:
            given += f", --quantization {quantization}"
        message = catalogue.text("quantization.twice", given=shorten(given))
        raise StartupError(message, code="format_twice")
    return {"quantization": formats[0]} if formats else {}


def _config_parameter() -> inspect.Parameter:
    option = typer.Option(None, "--config", help=catalogue.text("config_file.help"), metavar="PATH")
    return inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=option, annotation=Path | None
    )


def _limit_parameter() -> inspect.Parameter:
    option = typer.Option(None, "--limit", help=catalogue.text("limit.help"), metavar="NAME=VALUE")
    return inspect.Parameter(
        "limit", inspect.Parameter.KEYWORD_ONLY, default=option, annotation=list[str] | None
    )


def _limits(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        name = name.strip().replace("-", "_")
        row = rows().get(name)
        if not sign:
            message = catalogue.text("limit.malformed", value=shorten(pair))
            raise StartupError(message, code="limit_malformed")
        if row is None or row.section != "limits":
            message = catalogue.text("limit.unknown", name=shorten(name))
            raise StartupError(message, code="limit_unknown")
        found[name] = value
    return found


def _kind(row: Row) -> Any:
    if typing.get_origin(row.type) in (types.UnionType, typing.Union):
        return next(k for k in typing.get_args(row.type) if k is not types.NoneType)
    return row.type


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    return _METAVARS[kind]
