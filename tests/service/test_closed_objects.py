"""An object that lists its properties is not left open, where closing it cannot contradict it."""

import json
from typing import Any

import pytest

from sightline.service.formats.lark import json_value

CITY = {"city": {"type": "string"}}


def written(schema: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(json_value(schema).removeprefix("%json "))
    return said


def test_listed_properties_are_all_there_are() -> None:
    assert written({"type": "object", "properties": CITY})["additionalProperties"] is False


def test_objects_within_objects_and_arrays_are_closed_too() -> None:
    inner = {"type": "object", "properties": CITY}
    said = written({"properties": {"one": inner, "many": {"type": "array", "items": inner}}})
    assert said["properties"]["one"]["additionalProperties"] is False
    assert said["properties"]["many"]["items"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"properties": CITY, "additionalProperties": True},
        {"properties": CITY, "patternProperties": {"^x": {}}},
        {"allOf": [{"properties": CITY}, {"properties": {"day": {}}}]},
        {"properties": CITY, "required": ["day"]},
    ],
    ids=["no list", "an empty list", "open on purpose", "patterns", "parts of a whole", "needed"],
)
def test_other_objects_stay_as_they_are(schema: dict[str, Any]) -> None:
    said = written(schema)
    del said["x-guidance"]
    assert said == schema


@pytest.mark.parametrize("required", [5, "city", [["city"]], None])
def test_nonsense_is_left_to_who_judges_it(required: Any) -> None:
    assert "additionalProperties" not in written({"properties": CITY, "required": required})
