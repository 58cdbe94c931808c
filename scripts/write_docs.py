"""Write what can be written from the code: `python scripts/write_docs.py`.

That is configuration.md and cli.md, in docs/ in English and in docs/zh/ in Chinese. With `--check`
nothing is written, and the exit status says whether the files are up to date.
"""

import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer
from docs_texts import WORDS, Words

from sightline.cli import catalogue
from sightline.cli.config import toml
from sightline.cli.main import build
from sightline.settings import Language, Row, rows

DOCS = Path(__file__).resolve().parent.parent / "docs"
FOLDERS: dict[Language, Path] = {"en": DOCS, "zh": DOCS / "zh"}


def main() -> int:
    stale = []
    for language, folder in FOLDERS.items():
        catalogue.use(language)
        for name, write in {"configuration.md": configuration, "cli.md": cli}.items():
            path, text = folder / name, "\n".join(write(WORDS[language]))
            if "--check" not in sys.argv:
                path.write_text(text, "utf-8")
            elif not path.exists() or path.read_text("utf-8") != text:
                stale.append(str(path.relative_to(DOCS)))
    if stale:
        print(f"{', '.join(stale)}: run python scripts/write_docs.py")
    return bool(stale)


def configuration(words: Words) -> Iterator[str]:
    yield words.configuration
    for section, title in words.sections.items():
        yield f"## {title}{words.colon}`[{section}]`\n"
        yield words.setting_columns
        yield "|---|---|---|---|"
        for row in _rows(section):
            what = catalogue.setting(row.name, row.what)
            yield f"| `{row.name}` | {_type(row, words)} | {_default(row, words)} | {what} |"
        yield ""
    yield f"## {words.limits_title}{words.colon}`[limits]`\n"
    yield words.about_limits
    yield words.limit_columns
    yield "|---|---|---|---|"
    for row in _rows("limits"):
        code = f"`{row.code}`" if row.code else "-"
        what = words.limits[row.name] if words.limits else row.what
        yield f"| `{row.name}` | {_default(row, words)} | {code} | {what} |"
    yield ""
    yield words.installation.removesuffix("\n")
    yield ""


def cli(words: Words) -> Iterator[str]:
    yield words.command_line
    for name, command in _commands(typer.main.get_command(build())):
        usage = " ".join(["sightline", name, "[OPTIONS]", *_arguments(command)])
        yield f"## `sightline {name}`\n"
        yield f"{command.help}\n"
        yield f"    {usage}\n"
        options = [p for p in command.params if p.param_type_name == "option"]
        if options:
            yield words.option_columns
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


def _type(row: Row, words: Words) -> str:
    kinds = [k for k in (typing.get_args(row.type) or (row.type,)) if k not in (type(None), ...)]
    kind = kinds[0]
    is_list = typing.get_origin(row.type) is tuple
    if is_list and kind is str:
        return words.types[tuple]
    choices = kinds if typing.get_origin(row.type) is Literal else typing.get_args(kind)
    if choices:
        told = " \\| ".join(f"`{choice}`" for choice in choices)
        return words.list_of.format(told) if is_list else told
    return words.types[kind]


def _default(row: Row, words: Words) -> str:
    return words.unset if row.default is None else f"`{toml(row.default)}`"


if __name__ == "__main__":
    sys.exit(main())
