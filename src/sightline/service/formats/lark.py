"""Pieces of grammars, in the Lark dialect of llguidance."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from sightline.core.chat import Tool

# Between two tokens of JSON: nothing, a blank, or a line break and what indents the next line.
# Without a bound a small model may write blanks for ever.
WHITESPACE = r"[ ]|\r?\n[ \t]{0,32}"
ANY_TEXT = r"/(.|\n)*/"
# With one of these, an object's further properties are decided already, or elsewhere.
_OPENINGS = frozenset(
    {
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
        "$ref",
        "anyOf",
        "oneOf",
        "if",
        "minProperties",
    }
)
# Of a keyword's value these are data, whatever they look like.
_DATA = frozenset({"enum", "const", "default", "examples"})
_OTHER_BOUNDS = {
    "exclusiveMinimum": ("maximum", "exclusiveMaximum"),
    "exclusiveMaximum": ("minimum", "exclusiveMinimum"),
}
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


def json_value(schema: Mapping[str, Any] | bool | None, *, lenient: bool = False) -> str:
    """Return the expression for JSON of `schema`; None stands for any object.

    A `lenient` one leaves out what cannot be enforced, instead of being refused for it. Objects
    that list their properties get no others unless the schema says so: models stay on their path,
    and some clients strip the word that says so.
    """
    if schema is None:
        closed: dict[str, Any] = {"type": "object"}
    elif isinstance(schema, bool):
        closed = {} if schema else {"enum": []}
    else:
        bounded = _bounded(schema)
        closed = dict(bounded if _mentions(schema, "allOf") else _closed(bounded))
    closed["x-guidance"] = {
        "whitespace_pattern": WHITESPACE,
        "lenient": lenient,
        "coerce_one_of": lenient,
    }
    return f"%json {json.dumps(closed)}"


def _closed(schema: Any) -> Any:
    """Return `schema` with `additionalProperties: false` where an object says nothing of them."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: value if key in _DATA else _closed(value) for key, value in schema.items()}
    properties, required = schema.get("properties"), schema.get("required", [])
    if (
        isinstance(properties, dict)
        and properties
        and isinstance(required, list)
        and all(isinstance(name, str) and name in properties for name in required)
        and not schema.keys() & _OPENINGS
    ):
        closed["additionalProperties"] = False
    return closed


def _bounded(schema: Any, beside: tuple[Any, ...] = ()) -> Any:
    """Return `schema` with bounds that keep excluded numbers out.

    Between a whole number that is excluded and a bound less than one away, as in 0 < x <= 0.5,
    llguidance takes the whole number, too: it is moved by a millionth of the way. The bound may
    also stand in one of the schemas `beside`, which `allOf` lays on the same value.
    """
    if isinstance(schema, list):
        return [_bounded(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    bounded = {key: value if key in _DATA else _bounded(value) for key, value in schema.items()}
    all_of = schema.get("allOf")
    branches = all_of if isinstance(all_of, list) else []
    if branches:
        bounded["allOf"] = [
            _bounded(branch, (schema, *beside, *branches[:index], *branches[index + 1 :]))
            for index, branch in enumerate(branches)
        ]
    together = [part for part in (schema, *beside, *branches) if isinstance(part, dict)]
    for keyword, others in _OTHER_BOUNDS.items():
        excluded = schema.get(keyword)
        if not _is_exact(excluded) or excluded != int(excluded):
            continue
        bounds = [part.get(other) for part in together for other in others]
        outward = 1 if keyword == "exclusiveMinimum" else -1
        ways = [bound - excluded for bound in bounds if _is_exact(bound)]
        short = [way for way in ways if 0 < way * outward < 1]
        if short:
            bounded[keyword] = excluded + min(short, key=abs) * 1e-6
    return bounded


def _is_exact(value: Any) -> TypeGuard[float]:
    """Say whether `value` is a number that floats hold to the digit before the point."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -(2**53) < value < 2**53


def _mentions(schema: Any, keyword: str) -> bool:
    """Say whether `keyword` stands anywhere; where parts are merged, none of them can be closed."""
    if isinstance(schema, list):
        return any(_mentions(part, keyword) for part in schema)
    if not isinstance(schema, dict):
        return False
    return keyword in schema or any(_mentions(part, keyword) for part in schema.values())


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
