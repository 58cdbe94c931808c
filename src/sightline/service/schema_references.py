"""Where the references of a JSON schema lead, and whether a value that follows them can end."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

from sightline.core.errors import shorten

Inside = Callable[[Mapping[str, Any]], Iterable[tuple[str, object]]]


@dataclass(frozen=True, slots=True)
class Step:
    """A schema within a schema: where it stands, and what its `$ref` leads to, None if nowhere."""

    place: str
    part: Mapping[str, Any] = field(repr=False)
    target: object = field(repr=False)


def follow(schema: object, inside: Inside) -> list[Step]:
    """Return every schema in `schema` and what references lead to, each once."""
    steps: dict[int, Step] = {}
    waiting: deque[tuple[str, object, object]] = deque([("$", schema, schema)])
    anchors = _anchors(schema, inside)
    while waiting:
        place, part, root = waiting.pop()
        if not isinstance(part, dict) or id(part) in steps:
            continue
        root = part if "$id" in part else root
        target = None
        if isinstance(reference := part.get("$ref"), str):
            target = _target(reference, root, anchors)
            waiting.appendleft((reference, target, root))
        steps[id(part)] = Step(place, part, target)
        waiting.extend((f"{place}.{shorten(step)}", inner, root) for step, inner in inside(part))
    return list(steps.values())


def find_loop(steps: Iterable[Step]) -> str | None:
    """Return where a reference leads back to itself without a step into the value, or None.

    Such a schema means nothing.
    """
    places = {id(step.part): step.place for step in steps}
    same_value = {
        id(step.part): [id(other) for other in _others(step) if isinstance(other, dict)]
        for step in steps
    }
    try:
        TopologicalSorter(same_value).prepare()
    except CycleError as error:
        return min(places[one] for one in error.args[1])
    return None


def find_endless(steps: list[Step]) -> str | None:
    """Return where a reference stands whose value would have to hold itself, or None.

    A schema can end when all that it asks for can, and one of each choice. Whoever is waited for is
    told once, so this takes no longer than reading the schema.
    """
    asks = [(step, need) for step in steps for need in _needs(step)]
    missing = {id(step.part): 0 for step in steps}
    told: defaultdict[int, list[int]] = defaultdict(list)  # needs that wait for a schema
    for number, (step, need) in enumerate(asks):
        missing[id(step.part)] += 1
        for part in need:
            told[id(part)].append(number)
    is_met = [False] * len(asks)
    ending = [part for part, count in missing.items() if not count]
    while ending:
        for number in told[ending.pop()]:
            if is_met[number]:
                continue
            is_met[number] = True
            owner = id(asks[number][0].part)
            missing[owner] -= 1
            if not missing[owner]:
                ending.append(owner)
    # What nobody needs may be endless: recursion through a property that may be left out.
    if not steps or not missing[id(steps[0].part)]:
        return None
    return next((step.place for step in steps if missing[id(step.part)] and step.target), "$")


def _needs(step: Step) -> Iterator[list[dict[str, Any]]]:
    """Yield what a value of the schema cannot do without: of each list, one schema at least.

    Only what is certain: where other kinds of values are allowed, nothing is needed of objects.
    """
    part = step.part
    if "enum" in part or "const" in part:
        return
    both = part.get("allOf")
    wanted = [step.target, *(both if isinstance(both, list) else ())]
    if part.get("type") == "object":
        wanted += _required(part)
    elif part.get("type") == "array":
        wanted += _first_items(part)
    yield from ([each] for each in wanted if isinstance(each, dict))
    for keyword in ("anyOf", "oneOf"):
        choices = part.get(keyword)
        if isinstance(choices, list) and choices and all(isinstance(c, dict) for c in choices):
            yield choices


def _required(part: Mapping[str, Any]) -> Iterator[object]:
    names, properties = part.get("required"), part.get("properties")
    if isinstance(names, list) and isinstance(properties, dict):
        yield from (properties.get(name) for name in names if isinstance(name, str))


def _first_items(part: Mapping[str, Any]) -> Iterator[object]:
    least, first = part.get("minItems"), part.get("prefixItems", [])
    if not isinstance(least, int) or not isinstance(first, list):
        return
    yield from first[: max(0, least)]
    if least > len(first):
        yield part.get("items")


def _others(step: Step) -> list[object]:
    """Return the schemas that judge the same value."""
    lists = (step.part.get(keyword) for keyword in ("allOf", "anyOf", "oneOf"))
    return [*(other for each in lists if isinstance(each, list) for other in each), step.target]


def _anchors(schema: object, inside: Inside) -> dict[str, object]:
    anchors: dict[str, object] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(name := part.get("$anchor"), str):
                anchors.setdefault(name, part)
            waiting.extend(inner for _, inner in inside(part))
    return anchors


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
