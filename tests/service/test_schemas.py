"""A schema that cannot be enforced, or costs too much, is refused before any work."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sightline.core.chat import ResponseFormat, Tool, ToolChoice
from sightline.core.errors import RequestError
from sightline.core.limits import Limits
from sightline.service.formats import lark
from sightline.service.grammar_check import GrammarCheck, Suspect, _Worker
from sightline.service.schemas import check_schema

Schema = Mapping[str, Any] | bool


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth - 1):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def properties(number: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": {"type": "null"} for i in range(number)}}


def refusal(schema: Schema, limits: Limits | None = None) -> tuple[str, str]:
    """Return code and text of the refusal of `schema`, by whoever refuses it."""

    async def judge() -> None:
        bounds = limits or Limits()
        check_schema(schema, "f", bounds)
        check = GrammarCheck(bounds)
        try:
            grammar = lark.whole(lark.json_value(schema))
            await check.check([Suspect(grammar=grammar, param="f", schema=schema)])
        finally:
            await check.close()

    with pytest.raises(RequestError) as caught:
        asyncio.run(judge())
    assert caught.value.param == "f"
    assert len(caught.value.message) <= 300
    return caught.value.code, caught.value.message


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (nested(17), "f: depth 17; limit 16."),
        (properties(1001), "f: more than 1000 properties."),
        ({"const": "x" * 65_536}, "f: 65549 bytes; limit 65536."),
        ({"enum": [f"value {i}" for i in range(100_000)]}, None),
    ],
    ids=["S06 depth 17", "S06 1001 properties", "S06 64 KiB", "S06 an enum of 100 000"],
)
def test_a_schema_over_a_limit_is_too_complex(schema: Schema, text: str | None) -> None:
    code, message = refusal(schema)
    assert code == "schema_too_complex"
    assert text is None or message == text


def test_a_schema_at_the_limits_passes() -> None:
    check_schema(nested(16), "f", Limits())
    check_schema(properties(1000), "f", Limits())


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": 5}, "f: Keyword 'type' at $: this value is no type."),
        (
            {"properties": {"a": {"type": "invalid"}}},
            "f: Keyword 'type' at $.properties.a: 'invalid' is no type.",
        ),
        ({"properties": []}, "f: Keyword 'properties' at $ must be an object."),
        ({"anyOf": {}}, "f: Keyword 'anyOf' at $ must be an array."),
        ({"items": 5}, "f: $.items is not a schema."),
        (
            {"$ref": "http://127.0.0.1/x"},
            "f: Keyword '$ref' at $ must begin with '#'; nothing is fetched.",
        ),
        ({"type": "string", "pattern": "("}, "f: A pattern at $ cannot be enforced."),
        (
            {"properties": {"a": {"type": "string", "pattern": "(?=a)b"}}},
            "f: A pattern at $.properties.a cannot be enforced.",
        ),
        ({"type": "string", "pattern": r"(a)\1"}, "f: A pattern at $ cannot be enforced."),
        (
            {"properties": {"a": {"type": "array", "uniqueItems": True}}},
            "f: Keyword 'uniqueItems' at $.properties.a is not supported.",
        ),
        ({"type": "string", "format": "ghost"}, "f: Format 'ghost' is not supported."),
        (False, "f: No value satisfies this schema."),
    ],
)
def test_a_schema_that_is_wrong_or_cannot_be_enforced_is_invalid(
    schema: Schema, text: str | None
) -> None:
    code, message = refusal(schema)
    assert code == "invalid_schema"
    assert text is None or message == text


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"$ref": "#"}, "$"),
        ({"$anchor": "here", "$ref": "#here"}, "$"),
        ({"$ref": "#/anyOf/0", "anyOf": [{"$ref": "#"}]}, "$"),
        ({"$defs": {"a b": {"allOf": [{"$ref": "#/%24defs/a%20b"}]}}}, "$.$defs.a b"),
        (
            {"$defs": {"a/b": {"$ref": "#/$defs/c~d"}, "c~d": {"$ref": "#/$defs/a~1b"}}},
            "$.$defs.a/b",
        ),
        ({"properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]}, "$.properties.a"),
        ({"$ref": "#/x/a", "x": {"a": {"items": {"$ref": "#/x/a/items"}}}}, "#/x/a.items"),
        ({"$defs": {"a": {"$id": "http://a/", "$ref": "#"}}, "$ref": "#/$defs/a"}, "$.$defs.a"),
        ({"anyOf": [{"type": "null"}, {"$ref": "#"}]}, "$"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_a_reference_to_itself_is_refused_before_any_work(schema: Schema, place: str) -> None:
    code, message = refusal(schema)
    assert (code, message) == (
        "invalid_schema",
        f"f: Keyword '$ref' at {place} leads back to itself.",
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}},
        {"items": {"$ref": "#"}},
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}},
        },
        {"$ref": "#/anyOf/0", "anyOf": [{"type": "null"}]},
        {"$ref": "#/nowhere/0/1"},
    ],
    ids=json.dumps,
)
def test_a_schema_may_refer_to_itself_further_down_the_value(schema: Schema) -> None:
    check_schema(schema, "f", Limits())


IN_ITSELF = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (IN_ITSELF, "$.properties.a"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "$.items"),
        ({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}, "$.prefixItems[0]"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {
                    "a": {"type": "object", "properties": {"b": {"$ref": "#/$defs/b"}},
                          "required": ["b"]},
                    "b": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 2},
                },
            },
            "$",
        ),
        ({"anyOf": [IN_ITSELF, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]}, None),
        ({"allOf": [{"type": "string"}, IN_ITSELF]}, "$.allOf[1].properties.a"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_a_schema_that_no_finite_value_satisfies_is_refused(
    schema: Schema, place: str | None
) -> None:
    code, message = refusal(schema)
    assert code == "invalid_schema"
    assert message.endswith("asks for another such value, endlessly.")
    assert place is None or f"at {place} asks" in message


@pytest.mark.parametrize(
    "schema",
    [
        {**IN_ITSELF, "required": []},
        {**IN_ITSELF, "type": ["object", "null"]},
        {**IN_ITSELF, "enum": [{}]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 0},
        {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
         "required": ["a"]},
        {"type": "object", "$defs": {"endless": {"type": "array", "minItems": 1,
         "items": {"$ref": "#/$defs/endless"}}}},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_schema_that_refers_to_itself_and_can_end_passes(schema: Schema) -> None:
    check_schema(schema, "f", Limits())


def test_references_are_followed_in_time_that_grows_with_the_schema() -> None:
    """Each definition asks for the next one, and they become known from the last to the first."""
    chain = {
        f"d{i}": {"type": "object", "properties": {"n": {"$ref": f"#/$defs/d{i + 1}"}},
                  "required": ["n"]}
        for i in range(600)
    }  # fmt: skip
    schema = {"$ref": "#/$defs/d0", "$defs": {**chain, "d600": {"type": "null"}}}
    began = time.process_time()
    check_schema(schema, "f", Limits())
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (
            {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}}, "required": ["a"]},
            "f: Keyword '$ref' at $.properties.a: '#/$defs/x' is not there.",
        ),
        ({"items": {"$ref": "#here"}}, "f: Keyword '$ref' at $.items: '#here' is not there."),
    ],
)
def test_a_reference_to_nothing_is_refused_with_its_place(schema: Schema, text: str) -> None:
    assert refusal(schema) == ("invalid_schema", text)


def test_s07_a_product_of_alternatives_is_too_complex() -> None:
    options = [
        {"anyOf": [{"properties": {f"p{i}{j}": {"type": "integer"}}} for j in range(2)]}
        for i in range(20)
    ]
    assert refusal({"allOf": options})[0] == "schema_too_complex"


def ask(world, **settings: Any) -> str | None:
    """Return the refusal's code and param; None when it was answered."""

    async def run() -> str | None:
        try:
            await world.ask("hi", **settings)
        except RequestError as error:
            return f"{error.code} {error.param}"
        finally:
            world.assert_idle()
            await world.service.close()
        return None

    return asyncio.run(run())


def tool(name: str = "f", **parameters: Any) -> Tool:
    return Tool(
        name=name,
        parameters=parameters,
        definition={"name": name, "parameters": parameters},
        param=f"{name}.parameters",
    )


def test_an_unenforceable_keyword_is_a_fault_only_where_it_must_be_enforced(kit) -> None:
    odd = tool(type="object", properties={"a": {"type": "array", "uniqueItems": True}})
    assert ask(kit.world(), tools=(odd,)) is None
    required = ToolChoice(mode="required")
    assert ask(kit.world(), tools=(odd,), tool_choice=required) == "invalid_schema f.parameters"


# What Pydantic writes for a Decimal, Zod for an address, and what else JavaScript understands.
@pytest.mark.parametrize(
    "pattern",
    [r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$", r"^(?!\.)(?!.*\.\.)[a-z.]+@[a-z]+$", r"(a)\1", r"\bword\b"],
)
def test_a_pattern_that_cannot_be_enforced_is_a_fault_only_where_it_must_be(
    kit, pattern: str
) -> None:
    odd = tool(type="object", properties={"a": {"type": "string", "pattern": pattern}})
    assert ask(kit.world(), tools=(odd,)) is None
    required = ToolChoice(mode="required")
    assert ask(kit.world(), tools=(odd,), tool_choice=required) == "invalid_schema f.parameters"


STEPS = {"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35}


@pytest.mark.parametrize(
    "schema",
    [
        {"const": 2**53 + 1},
        {"type": "array", "items": {"enum": ["x", {"id": [-(2**60)]}]}},
        STEPS,
        {"type": "array", "items": STEPS},
    ],
    ids=["a number", "a number in a value", "steps", "steps in a list"],
)
def test_numbers_that_the_compiler_gets_wrong_are_a_fault_only_where_they_must_be_enforced(
    kit, schema: dict[str, Any]
) -> None:
    world = kit.world()
    wanted = ResponseFormat(schema=schema, param="wanted")
    assert ask(world, response_format=wanted) == "invalid_schema wanted"
    assert not world.engine.requests
    offered = tool(type="object", properties={"a": schema})
    assert ask(kit.world(), tools=(offered,)) is None
    must = ToolChoice(mode="required")
    assert ask(kit.world(), tools=(offered,), tool_choice=must) == "invalid_schema f.parameters"


def test_numbers_that_floats_hold_are_no_fault(kit) -> None:
    schema = {"enum": [2**53, -(2**53), 0.1, True, {"type": "number", "multipleOf": 0.1}]}
    steps = {"type": "number", "multipleOf": 0.5, "minimum": 0.25, "maximum": 0.75}
    for wanted in (schema, steps):
        assert ask(kit.world(), response_format=ResponseFormat(schema=wanted)) is None


def test_a_named_choice_judges_the_tool_that_it_names(kit) -> None:
    odd = tool("odd", type="object", properties={"a": {"not": {}}})
    named = ToolChoice(mode="required", name="good")
    assert ask(kit.world(), tools=(odd, tool("good")), tool_choice=named) is None


def test_a_broken_schema_is_a_fault_of_an_offered_tool_too(kit) -> None:
    broken = tool(type="object", properties={"a": {"type": "string", "pattern": "("}})
    assert ask(kit.world(), tools=(broken,)) == "invalid_schema f.parameters"


def test_a_refused_schema_never_reaches_the_engine(kit) -> None:
    world = kit.world()
    wanted = ResponseFormat(schema={"not": {}}, param="response_format.json_schema")
    assert ask(world, response_format=wanted) == "invalid_schema response_format.json_schema"
    assert not world.engine.requests


def test_the_engine_gets_the_grammar_of_the_whole_answer(kit) -> None:
    world = kit.world()
    assert ask(world, response_format=ResponseFormat(schema={"type": "integer"})) is None
    grammar = world.engine.requests[0].params.grammar
    assert grammar is not None
    assert '"type": "integer"' in grammar


def test_a_compiler_that_takes_too_long_is_killed_and_the_next_schema_is_judged() -> None:
    async def run() -> None:
        check = GrammarCheck(replace(Limits(), schema_timeout_s=1e-9))
        suspect = Suspect(grammar=lark.whole(lark.json_value(None)), param="f")
        try:
            with pytest.raises(RequestError) as caught:
                await check.check([suspect])
            assert caught.value.code == "schema_too_complex"
        finally:
            await check.close()
        patient = GrammarCheck(Limits())
        try:
            await patient.check([suspect, suspect])
        finally:
            await patient.close()

    asyncio.run(run())


@pytest.mark.parametrize("when", ["while it waits", "while it compiles"])
def test_a_compiler_that_somebody_killed_is_no_fault_of_the_schema(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = _Worker.ask
    victims: list[_Worker] = []

    async def killed_once(worker: _Worker, grammars: Sequence[str], timeout_s: float) -> list[str]:
        if when == "while it compiles" and not victims:
            victims.append(worker)
            worker.kill()
        return await ask(worker, grammars, timeout_s)

    async def run() -> None:
        check = GrammarCheck(Limits())
        first, second = (
            Suspect(grammar=lark.whole(lark.json_value({"type": kind})), param="f")
            for kind in ("integer", "string")
        )
        try:
            await check.check([first])
            if when == "while it waits":
                check._workers[0].kill()
            monkeypatch.setattr(_Worker, "ask", killed_once)
            await check.check([second])
        finally:
            await check.close()

    asyncio.run(run())
