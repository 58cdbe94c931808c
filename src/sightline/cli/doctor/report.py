"""Findings for people, and for programs."""

from collections.abc import Sequence
from typing import Any

from sightline import __version__
from sightline.cli import catalogue
from sightline.cli.columns import width
from sightline.cli.doctor.findings import Finding
from sightline.cli.terminal import printable

NAME_WIDTH = 12
LEVEL_WIDTH = 9


def shown(finding: Finding) -> str:
    """Return one line, and one more with the remedy of what is not well."""
    level = catalogue.text(f"doctor.level.{finding.level}")
    name = catalogue.text(f"doctor.check.{finding.check}")
    line = _padded(level, LEVEL_WIDTH) + _padded(name, NAME_WIDTH) + printable(finding.message)
    if finding.fix is None:
        return line
    indent = " " * (LEVEL_WIDTH + NAME_WIDTH)
    return f"{line}\n{indent}{catalogue.text('doctor.remedy')} {printable(finding.fix)}"


def as_object(findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "sightline": __version__,
        "healthy": not any(finding.level == "broken" for finding in findings),
        "checks": [finding.as_json for finding in findings],
    }


def _padded(text: str, columns: int) -> str:
    return text + " " * max(1, columns - width(text))
