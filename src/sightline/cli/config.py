from typing import Any

import typer

from sightline.cli import catalogue
from sightline.cli.options import takes_settings
from sightline.cli.terminal import ends_cleanly
from sightline.settings import Settings, rows

MASK = "***"


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("config.help"))
    @ends_cleanly
    @takes_settings()
    def config(settings: Settings) -> None:
        print("\n".join(lines(settings)))


def lines(settings: Settings) -> list[str]:
    """Return the tree as TOML, with where each value came from behind it. Secrets are masked."""
    found: list[str] = []
    section = ""
    for row in rows().values():
        if row.section != section:
            section = row.section
            found += [""] * bool(found) + [f"[{section}]"]
        value = settings.value(row)
        if row.secret and value:
            shown = f'"{MASK}"' if isinstance(value, str) else f'["{MASK}"]'
        else:
            shown = toml(value)
        assignment = f"{row.name} = {shown}" if value is not None else f"# {row.name} is unset"
        found.append(f"{assignment:<44} # {settings.origin(row.name)}")
    return found


def toml(value: Any) -> str:
    """Write a value as TOML does."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
