"""Judging a JSON schema before anything is built from it: its size, its shape, its references.

What a keyword means, and whether it can be enforced, is judged by the compiler (`grammar_check`).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits
from sightline.service.schema_references import find_endless, find_loop, follow

TYPES = ("string", "number", "integer", "boolean", "null", "object", "array")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_LOWER, _UPPER = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
_OF_NUMBERS = ("type", "multipleOf", *sorted(_LOWER | _UPPER))
# Each costs milliseconds. What is wrong with the others is found out while an answer is made.
MAX_MULTIPLES = 32
# The compiler keeps numbers as floats.
MAX_WHOLE = 2**53
_SINGLE = (
    "items",
    "additionalProperties",
    "additionalItems",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
)


def check_schema(schema: Mapping[str, Any] | bool, param: str, limits: Limits) -> None:
    """Raise `RequestError` (`schema_too_complex`, `invalid_schema`) for what needs no compiler."""
    size = len(json.dumps(schema, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > limits.max_schema_bytes:
        raise too_complex(param, f"{size} bytes; limit {limits.max_schema_bytes}.")
    num_properties = 0
    for place, part, depth in walk(schema):
        if depth > limits.max_schema_depth:
            raise too_complex(param, f"depth {depth}; limit {limits.max_schema_depth}.")
        if not isinstance(part, dict):
            if not isinstance(part, bool):
                raise invalid(param, f"{place} is not a schema.")
            continue
        properties = part.get("properties")
        if isinstance(properties, dict):
            num_properties += len(properties)
            if num_properties > limits.max_schema_properties:
                raise too_complex(param, f"more than {limits.max_schema_properties} properties.")
        _check_keywords(part, place, param)
    _check_references(schema, param)


def check_numbers(schema: Mapping[str, Any] | bool, param: str) -> None:
    """Raise `RequestError` for values that the compiler would round to others."""
    for place, part, _ in walk(schema):
        if isinstance(part, dict):
            for keyword in ("const", "enum"):
                if keyword in part and _is_rounded(part[keyword]):
                    what = f"has whole numbers beyond {MAX_WHOLE}; send them as strings."
                    raise invalid(param, f"Keyword '{keyword}' at {place} {what}")


def multiples(schema: Mapping[str, Any] | bool) -> list[dict[str, Any]]:
    """Return what `schema` says of multiples between two bounds: of the first few of them."""
    found: list[dict[str, Any]] = []
    for _, part, _ in walk(schema):
        if isinstance(part, dict) and part.get("type") == "number" and "multipleOf" in part:
            told = {keyword: part[keyword] for keyword in _OF_NUMBERS if keyword in part}
            if part.keys() & _LOWER and part.keys() & _UPPER and told not in found:
                found.append(told)
        if len(found) == MAX_MULTIPLES:
            break
    return found


def walk(schema: object, place: str = "$", depth: int = 1) -> Iterator[tuple[str, object, int]]:
    """Yield every schema in `schema`, itself first, with its path and its depth."""
    # A stack of its own: a schema may be as deep as the JSON parser lets it be.
    waiting = [(place, schema, depth)]
    while waiting:
        place, part, depth = waiting.pop()
        yield place, part, depth
        if isinstance(part, dict):
            waiting.extend(
                (f"{place}.{shorten(step)}", inner, depth + 1) for step, inner in inside(part)
            )


def path_of(schema: object, keyword: str) -> str:
    """Return where `keyword` stands for the first time."""
    for place, part, _ in walk(schema):
        if isinstance(part, dict) and keyword in part:
            return place
    return "$"


def path_of_reference(schema: object, reference: str) -> str:
    """Return where `$ref` is `reference` for the first time."""
    for place, part, _ in walk(schema):
        if isinstance(part, dict) and part.get("$ref") == reference:
            return place
    return "$"


def too_complex(param: str, what: str) -> RequestError:
    return RequestError(f"{param}: {what}", code="schema_too_complex", param=param)


def invalid(param: str, what: str) -> RequestError:
    return RequestError(f"{param}: {what}"[:300], code="invalid_schema", param=param)


def inside(part: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the schemas that stand in `part`, with the step that leads to each."""
    for keyword in _MAPS:
        inner = part.get(keyword)
        if isinstance(inner, dict):
            yield from ((f"{keyword}.{name}", value) for name, value in inner.items())
    for keyword in _LISTS:
        inner = part.get(keyword)
        if isinstance(inner, list):
            yield from ((f"{keyword}[{index}]", value) for index, value in enumerate(inner))
    for keyword in _SINGLE:
        if keyword in part:
            inner = part[keyword]
            if isinstance(inner, list):  # the old form of prefixItems
                yield from ((f"{keyword}[{index}]", value) for index, value in enumerate(inner))
            else:
                yield keyword, inner


def _is_rounded(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_is_rounded, value.values()))
    if isinstance(value, list):
        return any(map(_is_rounded, value))
    return isinstance(value, int) and abs(value) > MAX_WHOLE


def _check_keywords(part: Mapping[str, Any], place: str, param: str) -> None:
    kind = part.get("type")
    kinds = kind if isinstance(kind, list) else [] if kind is None else [kind]
    for one in kinds:
        if one not in TYPES:
            shown = f"'{shorten(one)}'" if isinstance(one, str) else "this value"
            raise invalid(param, f"Keyword 'type' at {place}: {shown} is no type.")
    reference = part.get("$ref")
    if reference is not None and not (isinstance(reference, str) and reference.startswith("#")):
        raise invalid(param, f"Keyword '$ref' at {place} must begin with '#'; nothing is fetched.")
    for keyword in ("properties", "patternProperties", "$defs", "definitions"):
        if keyword in part and not isinstance(part[keyword], dict):
            raise invalid(param, f"Keyword '{keyword}' at {place} must be an object.")
    for keyword in ("allOf", "anyOf", "oneOf", "enum", "required"):
        if keyword in part and not isinstance(part[keyword], list):
            raise invalid(param, f"Keyword '{keyword}' at {place} must be an array.")


def _check_references(schema: Mapping[str, Any] | bool, param: str) -> None:
    """Raise `RequestError` for references without end: the compiler takes them, answers do not."""
    steps = follow(schema, inside)
    if place := find_loop(steps):
        raise invalid(param, f"Keyword '$ref' at {place} leads back to itself.")
    if place := find_endless(steps):
        raise invalid(param, f"Keyword '$ref' at {place} asks for another such value, endlessly.")
