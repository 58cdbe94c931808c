"""What a grammar lets a model write is what the parser of the same syntax reads."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from sightline.core.chat import Tool
from sightline.service.formats import glm4_tools, hermes, lark
from sightline.service.formats.contract import AnswerParser, Called, Said, ToolUse

NEXT, STOP = 256, 257
CITY = {"type": "object", "properties": {"city": {"enum": ["Rome", "北京"]}}, "required": ["city"]}


class Bytes:
    """A token per byte, a control token between messages and one that ends an answer."""

    eos_token_id, bos_token_id = STOP, None
    tokens = [*(bytes([byte]) for byte in range(256)), b"<|next|>", b"<|stop|>"]  # noqa: RUF012
    special_token_ids = [NEXT, STOP]  # noqa: RUF012

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


TOKENIZER = LLTokenizer(TokenizerWrapper(Bytes()), n_vocab=258, eos_token=[STOP])


def accepts(grammar: str, *pieces: str | int) -> bool:
    """Say whether the pieces are a whole answer."""
    matcher = LLMatcher(TOKENIZER, grammar, log_level=0)
    assert not matcher.is_error(), matcher.get_error()
    ids = [i for p in pieces for i in (p.encode() if isinstance(p, str) else (p,))]
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def tool(name: str, parameters: dict[str, Any]) -> Tool:
    return Tool(name=name, parameters=parameters, definition={"name": name}, param="p")


TOOLS = (tool("weather", CITY), tool("now", {}))
USE, ONE = ToolUse(tools=TOOLS), ToolUse(tools=TOOLS, parallel=False)


def glm4(use: ToolUse, said: str | None = None) -> str:
    return glm4_tools.grammar(use, said=said, next_message=NEXT)


def hermes_call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def test_glm4_may_write_valid_calls_and_nothing_else() -> None:
    assert accepts(glm4(USE), 'weather\n{"city": "北京"}')
    assert accepts(glm4(USE), "now\n{}")
    assert accepts(glm4(USE), 'weather\n{"city":"Rome"}', NEXT, "now\n{}")
    assert not accepts(glm4(USE), 'weather\n{"city": "Oslo"}')
    assert not accepts(glm4(USE), 'now\n{"a": 1}')
    assert not accepts(glm4(USE), "\nI cannot say.")


def test_hermes_may_write_valid_calls_and_nothing_else() -> None:
    grammar = hermes.grammar(USE, said=None)
    assert accepts(grammar, hermes_call("weather", '{"city": "北京"}'))
    assert accepts(grammar, hermes_call("now", "{}") + "\n" + hermes_call("now", "{}"))
    assert not accepts(grammar, hermes_call("other", "{}"))
    assert not accepts(grammar, "I cannot say.")


def test_without_parallel_calls_there_is_one() -> None:
    assert not accepts(glm4(ONE), "now\n{}", NEXT, "now\n{}")
    assert not accepts(
        hermes.grammar(ONE, said=None), hermes_call("now", "{}") + "\n" + hermes_call("now", "{}")
    )


def test_tags_that_are_control_tokens_are_written_as_such() -> None:
    grammar = hermes.grammar(ONE, said=None, controls={hermes.OPEN: NEXT})
    body = hermes_call("now", "{}").removeprefix(hermes.OPEN)
    assert accepts(grammar, NEXT, body)
    assert not accepts(grammar, hermes.OPEN, body)


@pytest.mark.parametrize(
    ("grammar", "lead", "call"),
    [
        (glm4(USE, lark.json_value({"type": "integer"})), "\n", "now\n{}"),
        (
            hermes.grammar(USE, said=lark.json_value({"type": "integer"})),
            "",
            hermes_call("now", "{}"),
        ),
    ],
    ids=["glm4", "hermes"],
)
def test_a_format_and_offered_tools_leave_both_ways_open(
    grammar: str, lead: str, call: str
) -> None:
    assert accepts(grammar, lead + "42")
    assert accepts(grammar, call)
    assert not accepts(grammar, lead + "forty-two")


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (glm4_tools.Glm4Answer(USE, next_message=NEXT), 'weather\n{"city": "Rome"}'),
        (hermes.HermesAnswer(USE), hermes_call("weather", '{"city": "Rome"}')),
    ],
    ids=["glm4", "hermes"],
)
def test_what_was_let_through_is_read_as_a_call(parser: AnswerParser, text: str) -> None:
    events = [*parser.feed(text), *parser.finish(cut=False)]
    assert [e for e in events if isinstance(e, Called)] == [Called("weather", '{"city": "Rome"}')]
    assert not any(isinstance(event, Said) for event in events)


def test_blanks_between_tokens_of_json_are_bounded() -> None:
    grammar = lark.whole(lark.json_value({"type": "array", "maxItems": 0}))
    assert accepts(grammar, "[ ]")
    assert accepts(grammar, "[\n" + " " * 32 + "]")
    assert not accepts(grammar, "[  ]")
    assert not accepts(grammar, "[\n" + " " * 33 + "]")


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({"exclusiveMinimum": 0, "maximum": 0.5}, "0.5", "0"),
        ({"exclusiveMinimum": 0.0, "exclusiveMaximum": 0.05}, "0.0499", "0"),
        ({"exclusiveMinimum": 3, "maximum": 3.25}, "3.001", "3"),
        ({"minimum": -0.5, "exclusiveMaximum": 0}, "-0.25", "-0"),
        ({"minimum": -3.5, "exclusiveMaximum": -3}, "-3.001", "-3"),
        ({"allOf": [{"exclusiveMinimum": 0}, {"maximum": 0.5}]}, "0.5", "0"),
        ({"exclusiveMinimum": 0, "allOf": [{"maximum": 0.5}]}, "0.5", "0"),
        ({"maximum": 0.5, "allOf": [{"allOf": [{"exclusiveMinimum": 0}]}]}, "0.5", "0"),
    ],
    ids=str,
)
def test_a_bound_that_is_excluded_is_not_written(
    bounds: dict[str, Any], inside: str, outside: str
) -> None:
    grammar = lark.whole(lark.json_value({"type": "array", "items": {"type": "number", **bounds}}))
    assert accepts(grammar, f"[{inside}]")
    assert not accepts(grammar, f"[{outside}]")


@pytest.mark.parametrize(
    "bounds",
    [
        {"exclusiveMinimum": 0, "maximum": 1},
        {"exclusiveMinimum": 0.5, "maximum": 0.75},
        {"exclusiveMinimum": 0, "maximum": -0.5},
        {"exclusiveMinimum": True, "maximum": 0.5},
        {"exclusiveMinimum": 0, "maximum": float("inf")},
        {"exclusiveMinimum": 10**400, "maximum": 0.5},
        {"const": {"exclusiveMinimum": 0, "maximum": 0.5}},
    ],
    ids=str,
)
def test_other_bounds_stay_as_they_are(bounds: dict[str, Any]) -> None:
    written = json.loads(lark.json_value({"items": bounds}).removeprefix("%json "))
    assert written["items"] == bounds
