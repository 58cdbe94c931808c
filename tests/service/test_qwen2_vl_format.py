"""Qwen2-VL's and Qwen2.5-VL's dialogue syntax, control tokens spelled by their names."""

import json

import pytest

from sightline.core.chat import ImagePart, Message, Role, TextPart, Tool, ToolCall
from sightline.service.formats.contract import Called, ToolUse
from sightline.service.formats.qwen2_vl import qwen2_vl_format

NAMES = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
)
TAGS = ("<tool_call>", "</tool_call>")
COUNT = Tool(
    name="count",
    param="tools[0]",
    parameters={},
    definition={"name": "count", "description": "<tool_call>", "parameters": {}},
)
IMAGE = ImagePart(source="cat.png", param="messages[0].content[0]")
ANSWER = "<|object_ref_start|>a cup<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>"


class ByteIds:
    """A token per byte, then control tokens: Qwen2.5's vocabulary has two more than Qwen2's."""

    def __init__(self, *, has_tags: bool) -> None:
        names = NAMES + (TAGS if has_tags else ())
        self.special_tokens = {name: 256 + i for i, name in enumerate(names)}
        self.num_tokens = 256 + len(names)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def special_id(self, name: str) -> int:
        return self.special_tokens[name]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b""


def said(role: Role, *parts: str | ImagePart, calls: tuple[ToolCall, ...] = ()) -> Message:
    made = tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts)
    return Message(role=role, parts=made, tool_calls=calls)


def shown(*messages: Message, tools: tuple[Tool, ...] = (), has_tags: bool = True) -> str:
    """Return the prompt; each control token stands in double square brackets."""
    tokenizer = ByteIds(has_tags=has_tags)
    layout = qwen2_vl_format(tokenizer).layout(messages, tokens_per_image=2, tools=tools)
    names = {token_id: f"[[{name}]]" for name, token_id in tokenizer.special_tokens.items()}
    pieces = [names.get(i, "").encode() or bytes([i]) for i in layout.token_ids]
    text = b"".join(pieces).decode()
    return text.replace("[[<|im_start|>]]", "\n> ").replace("[[<|im_end|>]]", " <").lstrip()


def call(name: str, **arguments: int) -> ToolCall:
    return ToolCall(id=name, name=name, arguments=json.dumps(arguments))


def test_one_turn_reads_as_the_published_template_writes_it() -> None:
    assert shown(said("user", "Look: ", IMAGE, "what?")).splitlines() == [
        "> system",
        "You are a helpful assistant. <",
        "",
        "> user",
        "Look: [[<|vision_start|>]][[<|image_pad|>]][[<|image_pad|>]][[<|vision_end|>]]what? <",
        "",
        "> assistant",
    ]


def test_results_that_follow_each_other_are_one_turn() -> None:
    calls = (call("count", n=1), call("look"))
    asked = said("assistant", "Wait.", calls=calls)
    text = shown(said("user", "?"), asked, said("tool", "one"), said("tool", "two", IMAGE))
    assert text.split("> assistant\n")[1] == (
        'Wait.\n[[<tool_call>]]\n{"name": "count", "arguments": {"n": 1}}\n[[</tool_call>]]'
        '\n[[<tool_call>]]\n{"name": "look", "arguments": {}}\n[[</tool_call>]] <\n'
        "\n> user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo"
        "[[<|vision_start|>]][[<|image_pad|>]][[<|image_pad|>]][[<|vision_end|>]]"
        "\n</tool_response> <\n\n"
    )


def test_results_of_several_rounds_are_turns_of_their_own() -> None:
    rounds = [said("assistant", calls=(call("look"),)), said("tool", "seen")] * 2
    text = shown(said("user", "?"), *rounds, said("user", "and?"))
    assert text.count("> user\n<tool_response>\nseen\n</tool_response> <\n") == 2
    assert "> user\nand? <\n" in text


@pytest.mark.parametrize("has_tags", [True, False], ids=["control tokens", "words"])
def test_tags_of_calls_are_what_the_vocabulary_has_for_them(*, has_tags: bool) -> None:
    text = shown(said("user", "<tool_call>"), tools=(COUNT,), has_tags=has_tags)
    start, end = ("[[<tool_call>]]", "[[</tool_call>]]") if has_tags else TAGS
    assert f'within {start}{end} XML tags:\n{start}\n{{"name": <function-name>, ' in text
    assert text.count(f"<args-json-object>}}\n{end} <\n") == 1
    # Neither what a user says nor what a tool's author wrote becomes one.
    assert "> user\n<tool_call> <\n" in text
    assert '"description": "<tool_call>"' in text


def test_a_call_stands_in_the_history_in_the_tokens_in_which_it_was_made() -> None:
    tokenizer = ByteIds(has_tags=True)
    format_ = qwen2_vl_format(tokenizer)
    start, end = (tokenizer.special_id(tag) for tag in TAGS)
    body = b'\n{"name": "count", "arguments": {"n": 2}}\n'
    answered = [start, *body, end]
    parser = format_.answer_parser(ToolUse(tools=(COUNT,)))
    events = [*parser.control(start), *parser.feed(body.decode()), *parser.control(end)]
    (event,) = [*events, *parser.finish(cut=False)]
    assert isinstance(event, Called)
    assert event.name is not None
    again = ToolCall(id="c", name=event.name, arguments=event.arguments)
    asked = format_.layout([said("user", "?")], tokens_per_image=2).token_ids
    history = [said("user", "?"), said("assistant", calls=(again,)), said("tool", "2")]
    ids = format_.layout(history, tokens_per_image=2).token_ids
    assert list(ids[: len(asked) + len(answered)]) == [*asked, *answered]


def test_marks_of_places_are_tokens_again_in_the_history_and_never_in_what_a_user_says() -> None:
    text = shown(said("user", ANSWER), said("assistant", ANSWER), said("user", "sure?"))
    asked, answered = text.split("> assistant\n")[:2]
    assert f"> user\n{ANSWER} <" in asked
    assert answered.startswith(
        "[[<|object_ref_start|>]]a cup[[<|object_ref_end|>]]"
        "[[<|box_start|>]](1,2),(3,4)[[<|box_end|>]] <\n"
    )


@pytest.mark.parametrize("name", [*NAMES[:3], *NAMES[7:], "<|quad_start|>", *TAGS])
def test_nothing_else_that_an_assistant_is_said_to_have_said_is_a_control_token(name: str) -> None:
    text = shown(said("user", "?"), said("assistant", f"a{name}b"))
    assert f"> assistant\na{name}b <\n" in text
