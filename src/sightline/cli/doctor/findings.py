"""What a check says: how bad it is, what it found, and what to do about it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from sightline.cli import catalogue

# `broken` is what keeps sightline from working; `warning` what will disappoint.
Level = Literal["ok", "note", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` chooses the sentences `doctor.<code>` and, if there is one, `doctor.<code>.fix`."""

    check: str
    level: Level
    code: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        values = catalogue.with_reasons_said(self.values)
        return catalogue.text(f"doctor.{self.code}", **values)

    @property
    def fix(self) -> str | None:
        key = f"doctor.{self.code}.fix"
        return catalogue.text(key, **self.values) if key in catalogue.TEXTS else None

    @property
    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "level": self.level,
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
            "values": self.values,
        }
