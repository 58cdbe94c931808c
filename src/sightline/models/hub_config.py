"""Reading a hub's config.json with suspicion: every value is checked before it becomes a size."""

from collections.abc import Mapping
from typing import Any

from sightline.core.errors import StartupError, shorten


class ConfigReader:
    """Takes checked values out of one JSON object.

    `where` is how the object is called in messages, for example `config.json` or
    `config.json, vision_config`. Every method raises StartupError, naming the key, the value
    found and what is supported. A key that is missing, or null, gives the default; without a
    default it is refused.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where

    def integer(self, key: str, *, low: int = 1, high: int, default: int | None = None) -> int:
        """Return the integer at `key`, within [low, high]."""
        value = self._value(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self.refusal(key, f"an integer from {low} to {high}")
        return value

    def number(self, key: str, *, low: float, high: float, default: float | None = None) -> float:
        """Return the number at `key`, within [low, high]."""
        value = self._value(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise self.refusal(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._value(key, default)
        if type(value) is not bool:
            raise self.refusal(key, "true or false")
        return value

    def require(self, key: str, expected: bool | str, *, default: bool | str) -> None:
        """Refuse any value but `expected`. A missing key, or null, counts as `default`."""
        value = self.values.get(key)
        if (default if value is None else value) != expected:
            raise self.refusal(key, _show(expected))

    def token_ids(self, key: str, *, vocab_size: int) -> tuple[int, ...]:
        """Return one id or a list of at most 16 as a tuple; every id is below `vocab_size`."""
        value = self._value(key, None)
        ids = value if isinstance(value, list) else [value]
        if not 1 <= len(ids) <= 16 or not all(
            type(token_id) is int and 0 <= token_id < vocab_size for token_id in ids
        ):
            raise self.refusal(key, f"1 to 16 token ids below {vocab_size}")
        return tuple(ids)

    def section(self, key: str) -> "ConfigReader | None":
        """Return the object at `key`, or None when the key is missing or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.refusal(key, "an object")
        return ConfigReader(value, f"{self.where}, {key}")

    def refusal(self, key: str, supported: str) -> StartupError:
        """Return the error for the value at `key`, where `supported` says what would do."""
        is_there = key in self.values
        shown = _show(self.values[key]) if is_there else ""
        found = f"is {shown}" if is_there else "is missing"
        return StartupError(
            f"{self.where}: {key!r} {found}; supported: {supported}.",
            code="config_value" if is_there else "config_value_missing",
            values={"where": self.where, "key": key, "found": shown, "supported": supported},
        )

    def _value(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value


def _show(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 128:
        return "an integer of more than 38 digits"
    if isinstance(value, Mapping):
        return "an object"
    return shorten(repr(value))
