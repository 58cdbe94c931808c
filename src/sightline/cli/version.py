import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer

from sightline import __version__
from sightline.cli import catalogue
from sightline.cli.terminal import ends_cleanly


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("version.help"))
    @ends_cleanly
    def version() -> None:
        for name, value in versions():
            print(f"{name:<10} {value}")


def show_and_exit(wanted: bool) -> None:
    if wanted:
        print(f"sightline {__version__}")
        raise typer.Exit()


def versions() -> list[tuple[str, str]]:
    """Return what a report should name; nothing heavy is imported to find it out."""
    return [
        ("sightline", __version__),
        ("torch", _installed("torch")),
        ("python", platform.python_version()),
        ("platform", f"{platform.system()} {platform.release()} {platform.machine()}"),
    ]


def _installed(package: str) -> str:
    try:
        return installed(package)
    except PackageNotFoundError:
        return "not installed"
