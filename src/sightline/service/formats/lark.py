"""Pieces of grammars, in the Lark dialect of llguidance."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sightline.core.chat import Tool

# Between two tokens of JSON: nothing, a blank, or a line break and what indents the next line.
# Without a bound a small model may write blanks for ever.
WHITESPACE = r"[ ]|\r?\n[ \t]{0,32}"
ANY_TEXT = r"/(.|\n)*/"
# Keywords that leave it to `properties` which properties there are.
_PLAIN = {
    "type", "properties", "required", "items", "title", "description", "default", "examples",
    "enum", "const", "format", "pattern", "minLength", "maxLength", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems",
    "additionalProperties", "$schema", "$id",
}  # fmt: skip
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


def json_value(schema: Mapping[str, Any] | bool | None, *, lenient: bool = False) -> str:
    """Return the expression for JSON of `schema`; None stands for any object.

    A `lenient` one leaves out what cannot be enforced, instead of being refused for it.
    """
    if schema is None:
        said: dict[str, Any] = {"type": "object"}
    elif isinstance(schema, bool):
        said = {} if schema else {"not": {}}
    else:
        said = _closed(schema)
    said["x-guidance"] = {"whitespace_pattern": WHITESPACE, "lenient": lenient}
    return f"%json {json.dumps(said)}"


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `schema` with the objects closed that list their properties and say nothing of others.

    What it then allows is a part of what it allowed. Left open, a small model invents properties
    until its tokens run out. Objects that other keywords have a say in stay as they are.
    """
    said = dict(schema)
    if not _PLAIN.issuperset(said):
        return said
    properties = said.get("properties")
    if isinstance(properties, dict):
        said["properties"] = {
            name: _closed(part) if isinstance(part, dict) else part
            for name, part in properties.items()
        }
        required = said.get("required", [])
        if (
            properties
            and isinstance(required, list)
            and all(isinstance(name, str) and name in properties for name in required)
        ):
            said.setdefault("additionalProperties", False)
    if isinstance(said.get("items"), dict):
        said["items"] = _closed(said["items"])
    return said


def arguments_of(tool: Tool, *, lenient: bool = False) -> str:
    """Return the expression for the arguments of a call: an object, whatever the schema says."""
    if not tool.parameters:
        return json_value(NO_ARGUMENTS)
    return json_value({"type": "object", **tool.parameters}, lenient=lenient)


def whole(expression: str) -> str:
    """Return the grammar of answers that are `expression` and nothing else."""
    return f"%llguidance {{}}\nstart: {expression}"


def literal(text: str) -> str:
    return json.dumps(text)


def control_token(token_id: int) -> str:
    return f"<[{token_id}]>"


def one_of(name: str, alternatives: Iterable[str]) -> list[str]:
    """Return the rules of `name`, which is any of `alternatives`; each gets a rule of its own."""
    rules = {f"{name}_{number}": body for number, body in enumerate(alternatives)}
    return [f"{name}: {' | '.join(rules)}", *(f"{rule}: {body}" for rule, body in rules.items())]


def repeated(rule: str, separator: str, *, parallel: bool) -> str:
    """Return one `rule`, or several with `separator` between them."""
    return f"{rule} ({separator} {rule})*" if parallel else rule
