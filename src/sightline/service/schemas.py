"""Judging a JSON schema before anything is built from it: its size, its shape, its references.

What a keyword means, and whether it can be enforced, is judged by the compiler (`grammar_check`).
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits

TYPES = ("string", "number", "integer", "boolean", "null", "object", "array")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
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


def walk(schema: object, place: str = "$", depth: int = 1) -> Iterator[tuple[str, object, int]]:
    """Yield every schema in `schema`, itself first, with its path and its depth."""
    # A stack of its own: a schema may be as deep as the JSON parser lets it be.
    waiting = [(place, schema, depth)]
    while waiting:
        place, part, depth = waiting.pop()
        yield place, part, depth
        if isinstance(part, dict):
            waiting.extend(
                (f"{place}.{shorten(step)}", inner, depth + 1) for step, inner in _inside(part)
            )


def path_of(schema: object, keyword: str) -> str:
    """Return where `keyword` stands for the first time."""
    for place, part, _ in walk(schema):
        if isinstance(part, dict) and keyword in part:
            return place
    return "$"


def too_complex(param: str, what: str) -> RequestError:
    return RequestError(f"{param}: {what}", code="schema_too_complex", param=param)


def invalid(param: str, what: str) -> RequestError:
    return RequestError(f"{param}: {what}"[:300], code="invalid_schema", param=param)


def _inside(part: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
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
    """Raise `RequestError` for a reference that leads back to itself without a step into the value.

    Such a schema means nothing. The compiler takes it, and the answer ends in a dead end.
    """
    anchors = {
        part["$anchor"]: part
        for _, part, _ in walk(schema)
        if isinstance(part, dict) and isinstance(part.get("$anchor"), str)
    }
    places: dict[int, str] = {}
    same_value: dict[int, list[int]] = {}  # the schemas that judge the same value as another one
    waiting: deque[tuple[str, object, object]] = deque([("$", schema, schema)])
    while waiting:
        place, part, root = waiting.pop()
        if not isinstance(part, dict) or id(part) in places:
            continue
        root = part if "$id" in part else root
        places[id(part)] = place
        others = [other for keyword in _LISTS[:3] for other in part.get(keyword, ())]
        if isinstance(reference := part.get("$ref"), str):
            others.append(target := _target(reference, root, anchors))
            waiting.appendleft((reference, target, root))
        same_value[id(part)] = [id(other) for other in others]
        waiting.extend((f"{place}.{shorten(step)}", inner, root) for step, inner in _inside(part))
    try:
        TopologicalSorter(same_value).prepare()
    except CycleError as error:
        place = min(places[one] for one in error.args[1])
        raise invalid(param, f"Keyword '$ref' at {place} leads back to itself.") from None


def _target(reference: str, root: object, anchors: Mapping[str, object]) -> object:
    """Return what `reference`, which begins with `#`, leads to; None if that is not there."""
    fragment = unquote(reference.removeprefix("#"))
    if fragment and not fragment.startswith("/"):
        return anchors.get(fragment)
    target = root
    for step in fragment.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict):
            target = target.get(name)
        elif isinstance(target, list) and name.isdecimal() and len(name) < 6:
            target = dict(enumerate(target)).get(int(name))
        else:
            return None
    return target
