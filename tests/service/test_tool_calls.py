"""What a model writes becomes words, thoughts and calls, wherever the text is cut."""

import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.chat import Message, TextPart, Tool, ToolCall
from sightline.service.formats import glm4_tools, hermes
from sightline.service.formats.contract import (
    AnswerParser,
    Called,
    Event,
    Said,
    Thought,
    ToolUse,
)
from sightline.service.formats.glm4 import Glm4Format
from sightline.service.formats.plain import PlainAnswer
from sightline.service.formats.thinking import ThinkingAnswer

NEXT = 264


def tool(name: str, **parameters: Any) -> Tool:
    definition = {"name": name, "description": f"Does {name}.", "parameters": parameters}
    return Tool(name=name, parameters=parameters, definition=definition, param="p")


USE = ToolUse(tools=(tool("count"), tool("count_all")))
ONE = ToolUse(tools=USE.tools, parallel=False)
PIECES = ToolUse(tools=USE.tools, stream_arguments=True)


def glm4(use: ToolUse) -> AnswerParser:
    return glm4_tools.Glm4Answer(use, next_message=NEXT)


def hermes_answer(use: ToolUse) -> AnswerParser:
    return hermes.HermesAnswer(use)


def joined(events: Iterable[Event]) -> list[Event]:
    """Join neighbours of one kind: their cuts mean nothing."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        match last, event:
            case Said(), Said():
                result[-1] = Said(last.text + event.text)
            case Thought(), Thought():
                result[-1] = Thought(last.text + event.text)
            case Called(), Called(name=None):
                result[-1] = Called(last.name, last.arguments + event.arguments)
            case _:
                result.append(event)
    return result


def read(parser: AnswerParser, *pieces: str | int, cut: bool = False) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        events += parser.feed(piece) if isinstance(piece, str) else parser.control(piece)
    return joined([*events, *parser.finish(cut=cut)])


ARGUMENTS = '{"n": 2, "of": "} 猫 {\\" <|assistant|>"}'
HERMES_CALL = f'<tool_call>\n{{"name": "count", "arguments": {ARGUMENTS}}}\n</tool_call>'


@pytest.mark.parametrize("use", [USE, PIECES])
def test_glm4_words_and_calls_are_told_apart_by_the_first_line(use: ToolUse) -> None:
    assert read(glm4(use), "\ncount\n{}") == [Said("count\n{}")]
    assert read(glm4(use), f"count\n{ARGUMENTS}\n") == [Called("count", ARGUMENTS)]
    assert read(glm4(use), f"counter\n{ARGUMENTS}") == [Said(f"counter\n{ARGUMENTS}")]
    assert read(glm4(use), "count\nthe cats") == [Said("count\nthe cats")]
    assert read(glm4(use), "count") == [Said("count")]


@pytest.mark.parametrize("use", [USE, PIECES])
def test_glm4_calls_stand_side_by_side_between_control_tokens(use: ToolUse) -> None:
    events = read(glm4(use), "\nI look.", NEXT, 'count\n{"n": 1}', NEXT, "count_all\n{}")
    assert events == [Said("I look."), Called("count", '{"n": 1}'), Called("count_all", "{}")]


def test_glm4_text_that_spells_a_control_token_begins_no_call() -> None:
    text = "see <|assistant|>count\n{}"
    assert read(glm4(USE), "\n" + text) == [Said(text)]


@pytest.mark.parametrize("use", [USE, PIECES])
def test_hermes_calls_stand_in_tags(use: ToolUse) -> None:
    events = read(hermes_answer(use), f"I look.\n{HERMES_CALL}\n{HERMES_CALL}\n")
    assert events == [Said("I look."), Called("count", ARGUMENTS), Called("count", ARGUMENTS)]


def test_hermes_tags_may_be_control_tokens() -> None:
    parser = hermes.HermesAnswer(USE, controls={7: hermes.OPEN, 8: hermes.CLOSE})
    body = f'\n{{"name": "count", "arguments": {ARGUMENTS}}}\n'
    assert read(parser, "I look.", 7, body, 8) == [Said("I look."), Called("count", ARGUMENTS)]


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>',
        '<tool_call>\n{"name": "count", "arguments": [1]}\n</tool_call>',
        '<tool_call>\n{"name": "count", "arguments": {1}}\n</tool_call>',
        "<tool_call>count</tool_call>",
        "a < b and <tool_cal is no tag",
        '<tool_call>\n{"name": "count", "arg',
    ],
)
def test_hermes_what_is_no_call_is_text(text: str) -> None:
    assert read(hermes_answer(USE), text) == [Said(text)]


@pytest.mark.parametrize("cut", [lambda text: [text], list], ids=["whole", "by character"])
def test_hermes_blanks_behind_a_tag_without_a_call_belong_to_the_next_call(
    cut: Callable[[str], list[str]],
) -> None:
    pieces = cut(f"<tool_call>\r\n {HERMES_CALL}")
    events = [Said("<tool_call>"), Called("count", ARGUMENTS)]
    assert read(hermes_answer(USE), *pieces) == events


def test_a_broken_call_falls_back_to_text() -> None:
    assert read(glm4(USE), 'count\n{"n": }') == [Said('count\n{"n": }')]


def test_a_call_that_was_cut_is_told_as_far_as_it_came() -> None:
    assert read(glm4(USE), 'count\n{"n": 1', cut=True) == [Called("count", '{"n": 1')]
    cut = '<tool_call>\n{"name": "count", "arguments": {"n": 1'
    assert read(hermes_answer(USE), cut, cut=True) == [Called("count", '{"n": 1')]


def test_without_parallel_calls_the_first_one_is_kept() -> None:
    events = read(glm4(ONE), 'count\n{"n": 1}', NEXT, 'count\n{"n": 2}')
    assert events == [Called("count", '{"n": 1}')]
    assert read(hermes_answer(ONE), HERMES_CALL * 2) == [Called("count", ARGUMENTS)]


def test_the_name_of_a_streamed_call_comes_before_its_arguments() -> None:
    parser = glm4(PIECES)
    assert list(parser.feed("count\n{")) == [Called("count", "{")]
    assert list(parser.feed('"n": 1}')) == [Called(None, '"n": 1}')]
    other = hermes_answer(PIECES)
    assert list(other.feed('<tool_call>\n{"name": "count", "arguments": {')) == [
        Called("count", ""),
        Called(None, "{"),
    ]


def test_thoughts_open_an_answer_and_nothing_else_does() -> None:
    def think(text: str) -> list[Event]:
        return read(ThinkingAnswer(PlainAnswer()), text)

    assert think("<think>\nTwo cats.\n</think>\n\nTwo.") == [Thought("Two cats."), Said("Two.")]
    assert think("<think>\n\n</think>\n\nTwo.") == [Said("Two.")]
    assert think("<think>never closed ") == [Thought("never closed")]
    assert think("a <think>b</think>") == [Said("a <think>b</think>")]
    assert think("<thin air") == [Said("<thin air")]


def test_a_call_may_follow_a_thought() -> None:
    parser = ThinkingAnswer(glm4(USE))
    assert read(parser, "<think>hm</think>\ncount\n{}") == [Thought("hm"), Called("count", "{}")]


PARSERS: list[Callable[[], AnswerParser]] = [
    *(lambda use=use: glm4(use) for use in (USE, ONE, PIECES)),
    *(lambda use=use: hermes_answer(use) for use in (USE, ONE, PIECES)),
    lambda: ThinkingAnswer(glm4(USE)),
    lambda: ThinkingAnswer(hermes_answer(PIECES), is_open=True),
]
fragments = st.sampled_from(
    [
        "\n",
        " ",
        "count",
        "count_all",
        "count\n{",
        '{"n": 1}',
        "{",
        "}",
        '"',
        "\\",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        '\n{"name": "count", "arguments": ',
        HERMES_CALL,
        "猫",
        "<",
        "a",
    ]
)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(fragments, max_size=8).map("".join),
    st.lists(st.integers(0, 60), max_size=10),
    st.sampled_from(range(len(PARSERS))),
    st.booleans(),
)
def test_it_never_matters_where_the_text_was_cut(
    text: str, cuts: list[int], which: int, cut: bool
) -> None:
    edges = [0, *sorted(min(at, len(text)) for at in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    whole = read(PARSERS[which](), text, cut=cut)
    assert read(PARSERS[which](), *pieces, cut=cut) == whole
    assert read(PARSERS[which](), *text, cut=cut) == whole


def test_glm4_offers_tools_in_the_words_it_was_trained_with() -> None:
    text = glm4_tools.system_text((tool("count", type="object"),))
    assert text == (
        "你是一个名为 GLM-4 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
        "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n\n## count\n\n"
        '{\n    "name": "count",\n    "description": "Does count.",\n    "parameters": {\n'
        '        "type": "object"\n    }\n}\n'
        "在调用上述函数时，请使用 Json 格式表示调用的参数。"
    )


def test_glm4_lays_out_calls_and_their_results(kit) -> None:
    tokenizer = kit.ByteTokenizer()
    special = tokenizer.special_id
    call = ToolCall(id="c", name="count", arguments='{"n": 1}')
    layout = Glm4Format(tokenizer).layout(
        [
            kit.message("user", "how many?"),
            Message(role="assistant", parts=(TextPart(text="I count."),), tool_calls=(call,)),
            kit.message("tool", "two"),
        ],
        tokens_per_image=18,
        tools=(tool("count"),),
    )
    offer = glm4_tools.system_text((tool("count"),))
    assert layout.token_ids == (
        *(special("[gMASK]"), special("<sop>")),
        *(special("<|system|>"), *b"\n", *offer.encode()),
        *(special("<|user|>"), *b"\nhow many?"),
        *(special("<|assistant|>"), *b"\nI count."),
        *(special("<|assistant|>"), *b'count\n{"n": 1}'),
        *(special("<|observation|>"), *b"\ntwo"),
        special("<|assistant|>"),
    )


def test_hermes_writes_calls_as_it_reads_them() -> None:
    calls = [ToolCall(id="a", name="count", arguments='{"n": 1}')] * 2
    assert read(hermes_answer(USE), "".join(hermes.called(calls))) == [
        Called("count", '{"n": 1}'),
        Called("count", '{"n": 1}'),
    ]


def test_hermes_offers_each_tool_on_a_line_of_json() -> None:
    lines = "".join(hermes.offer(USE.tools)).splitlines()
    listed = lines[lines.index("<tools>") + 1 : lines.index("</tools>")]
    assert [json.loads(line)["function"]["name"] for line in listed] == ["count", "count_all"]
