"""Write docs/configuration.md and docs/cli.md from the code: `python scripts/write_docs.py`.

With `--check` nothing is written, and the exit status says whether the files are up to date.
"""

import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer

from sightline.cli import catalogue
from sightline.cli.config import toml
from sightline.cli.main import build
from sightline.settings import Row, rows

DOCS = Path(__file__).resolve().parent.parent / "docs"

CONFIGURATION = """\
# Configuration

Every setting has one name. `port`, for example, is the flag `--port`, the environment variable
`SIGHTLINE_PORT`, and `port` in the `[server]` table of a file. Flags win over the environment, the
environment over the file, the file over the defaults. `sightline config` prints every value and
where it came from, in a form that is itself a valid file; keys are masked.

The file is `sightline.toml` of the current folder, or what `--config` or `SIGHTLINE_CONFIG` names:

```toml
[server]
port = 9000
strict = true

[limits]
max_image_bytes = 5_000_000
```

An unknown name, in a file, the environment or a flag, is an error, and so is a value of the wrong
type. Several values are a list in a file, a repeated flag, and separated by commas in the
environment. `url` and `lang` cannot be set in a file: a file that lies in some folder must not
redirect private pictures. A key given as a flag can be seen by other users of the machine (`ps`);
prefer `SIGHTLINE_API_KEY` or a file.
"""

INSTALLATION = """\
## When sightline is installed

Where there is a C compiler, installing compiles kernels for x86-64 processors under Linux (ADR
[31](adr/0031-our-own-kernels-for-processors.md)). These variables are read then and never by a
server; `python hatch_build.py`, which compiles anew in a checkout, reads the last two.

| Variable | What it does |
|---|---|
| `SIGHTLINE_KERNELS` | `0`: compile nothing; `1`: fail if compiling does; unset: try. |
| `CC` | The C compiler; unset: the first of cc, gcc and clang. |
| `CFLAGS` | Further options for it. |
"""

LIMITS = """\
Every limit is inclusive, and a request over it is refused with the code in the table (`-`: nothing
is refused, work waits or stops). Change one with `--limit NAME=VALUE`, `SIGHTLINE_NAME` or the
`[limits]` table. Sizes are in bytes, times in seconds.
"""

CLI = """\
# Command line

Messages are in Chinese or English, by locale or `--lang zh|en`. Exit status: 0 done; 1 the server
refused or failed, `doctor` found something broken, or what `fit` was asked about does not fit; 2
wrong usage, or something cannot start; 3 the disk is too small for a download (what has come of it
is kept); 130 interrupted.
"""

TITLES = {"server": "Server", "model": "Model", "media": "Pictures", "client": "Client"}


def main() -> int:
    catalogue.use("en")
    stale = []
    for name, write in {"configuration.md": configuration, "cli.md": cli}.items():
        path, text = DOCS / name, "\n".join(write())
        if "--check" in sys.argv:
            if not path.exists() or path.read_text("utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, "utf-8")
    if stale:
        print(f"{', '.join(stale)}: run python scripts/write_docs.py")
    return bool(stale)


def configuration() -> Iterator[str]:
    yield CONFIGURATION
    for section, title in TITLES.items():
        yield f"## {title}: `[{section}]`\n"
        yield "| Setting | Type | Default | What it does |"
        yield "|---|---|---|---|"
        for row in _rows(section):
            yield f"| `{row.name}` | {_type(row)} | {_default(row)} | {row.what} |"
        yield ""
    yield "## Limits: `[limits]`\n"
    yield LIMITS
    yield "| Limit | Default | Error | What it bounds |"
    yield "|---|---|---|---|"
    for row in _rows("limits"):
        code = f"`{row.code}`" if row.code else "-"
        yield f"| `{row.name}` | {_default(row)} | {code} | {row.what} |"
    yield ""
    yield INSTALLATION.removesuffix("\n")
    yield ""


def cli() -> Iterator[str]:
    yield CLI
    for name, command in _commands(typer.main.get_command(build())):
        usage = " ".join(["sightline", name, "[OPTIONS]", *_arguments(command)])
        yield f"## `sightline {name}`\n"
        yield f"{command.help}\n"
        yield f"    {usage}\n"
        options = [p for p in command.params if p.param_type_name == "option"]
        if options:
            yield "| Option | What it does |"
            yield "|---|---|"
            yield from (f"| {_flags(option)} | {option.help} |" for option in options)
            yield ""


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _arguments(command: Any) -> list[str]:
    return [
        p.metavar if p.required else f"[{p.metavar}]"
        for p in command.params
        if p.param_type_name == "argument"
    ]


def _flags(option: Any) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    names = (*option.opts, *option.secondary_opts)
    return ", ".join(f"`{name}{value}`" for name in names).replace("|", "\\|")


def _rows(section: str) -> Iterator[Row]:
    return (row for row in rows().values() if row.section == section)


def _type(row: Row) -> str:
    kinds = [k for k in (typing.get_args(row.type) or (row.type,)) if k not in (type(None), ...)]
    if typing.get_origin(row.type) is tuple:
        return "list of texts"
    kind = kinds[0]
    if typing.get_origin(row.type) is Literal:
        return " \\| ".join(f"`{choice}`" for choice in kinds)
    if typing.get_origin(kind) is Literal:
        return " \\| ".join(f"`{choice}`" for choice in typing.get_args(kind))
    return {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}[
        kind
    ]


def _default(row: Row) -> str:
    return "unset" if row.default is None else f"`{toml(row.default)}`"


if __name__ == "__main__":
    sys.exit(main())
