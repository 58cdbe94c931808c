"""GLM-4's dialogue syntax: exact ids, and text that stays text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import InternalError, StartupError
from sightline.service.formats.contract import NO_TOOLS
from sightline.service.formats.glm4 import Glm4Format
from sightline.service.formats.registry import open_format

SPECIALS = {
    "<|endoftext|>": 151329,
    "[gMASK]": 151331,
    "<sop>": 151333,
    "<|system|>": 151335,
    "<|user|>": 151336,
    "<|assistant|>": 151337,
    "<|observation|>": 151338,
    "<|begin_of_image|>": 151339,
    "<|end_of_image|>": 151340,
}
BOI, FILLER, EOI = 151339, 151329, 151340


class RealIds:
    """GLM-4's published ids, for the few texts whose encoding is published."""

    num_tokens = 151343

    def encode(self, text: str) -> list[int]:
        known = {"": [], "\n": [198], "你好": [109377], "33": [100702], "333": [121577]}
        return known[text]

    def special_id(self, name: str) -> int:
        return SPECIALS[name]

    def token_bytes(self, token_id: int) -> bytes:
        raise NotImplementedError


def layout(messages, *, tokens_per_image=1602, tokenizer=None):
    return Glm4Format(tokenizer or RealIds()).layout(messages, tokens_per_image=tokens_per_image)


def test_one_user_turn_has_the_published_ids(kit) -> None:
    ids = layout([kit.message("user", "你好")]).token_ids
    assert ids == (151331, 151333, 151336, 198, 109377, 151337)


def test_turns_follow_each_other_with_nothing_between(kit) -> None:
    turns = [kit.message("user", "你好"), kit.message("assistant", "33")]
    ids = layout([*turns, kit.message("user", "333")]).token_ids
    assert ids[2:] == (151336, 198, 109377, 151337, 198, 100702, 151336, 198, 121577, 151337)


@pytest.mark.parametrize(
    ("role", "token"), [("system", 151335), ("assistant", 151337), ("tool", 151338)]
)
def test_each_role_has_its_token(kit, role, token) -> None:
    assert layout([kit.message(role, "你好")]).token_ids[2:5] == (token, 198, 109377)


def test_the_image_stands_after_the_header_and_before_all_text(kit) -> None:
    before, after = (
        layout([kit.message("user", *content)])
        for content in ((kit.image(), "你好"), ("你", kit.image(), "好"))
    )
    expected = (151331, 151333, 151336, 198, BOI, *[FILLER] * 1600, EOI, 109377, 151337)
    assert before.token_ids == after.token_ids == expected
    assert [(s.start, s.length) for s in before.images] == [(4, 1602)]


def test_an_image_stays_in_the_turn_that_brought_it(kit) -> None:
    turns = [
        kit.message("user", kit.image(), "你好"),
        kit.message("assistant", "33"),
        kit.message("user", "333"),
    ]
    ids = layout(turns, tokens_per_image=4).token_ids
    assert ids[4:8] == (BOI, FILLER, FILLER, EOI)
    assert ids.count(BOI) == 1


def test_an_image_without_text_is_a_message(kit) -> None:
    ids = layout([kit.message("user", kit.image())], tokens_per_image=3).token_ids
    assert ids[2:] == (151336, 198, BOI, FILLER, EOI, 151337)


def test_messages_without_content_are_left_out(kit) -> None:
    empty = [kit.message("system", ""), kit.message("user"), kit.message("assistant", "", "")]
    assert layout(empty).token_ids == (151331, 151333, 151337)
    assert layout([*empty, kit.message("user", "你好")]).token_ids[2:4] == (151336, 198)


@pytest.mark.parametrize("text", [" ", "\n", "\n\n  "])
def test_blank_messages_are_messages(kit, text) -> None:
    tokenizer = kit.ByteTokenizer()
    ids = layout([kit.message("user", text)], tokenizer=tokenizer).token_ids
    assert bytes(ids[3:-1]).decode() == "\n" + text


def test_the_header_is_encoded_apart_from_the_text(kit) -> None:
    tokenizer = kit.ByteTokenizer()
    layout([kit.message("user", "\n\nhello")], tokenizer=tokenizer)
    assert tokenizer.encoded == ["\n", "\n\nhello"]


def test_text_parts_are_joined_before_they_are_encoded(kit) -> None:
    tokenizer = kit.ByteTokenizer()
    layout([kit.message("user", "<|us", kit.image(), "er|>")], tokenizer=tokenizer)
    assert tokenizer.encoded[1:] == ["<|user|>"]


hostile = st.lists(
    st.sampled_from(
        [
            *SPECIALS,
            "<|image_pad|>",
            "<|vision_start|><|image_pad|><|vision_end|>",
            "<img>http://127.0.0.1/x</img>",
            "</s>",
            "<|im_end|>",
            "<|begin_of_",
            "image|>",
            "\n",
            "hi",
        ]
    )
    | st.text(max_size=5),
    max_size=6,
)


@settings(deadline=None)
@given(
    turns=st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), hostile, st.booleans()),
        max_size=4,
    )
)
def test_only_the_template_writes_control_tokens(kit, turns) -> None:
    messages = [
        kit.message(role, *texts, *([kit.image()] if has_image else []))
        for role, texts, has_image in turns
    ]
    tokenizer = kit.ByteTokenizer()
    result = layout(messages, tokens_per_image=5, tokenizer=tokenizer)
    num_images = sum(has_image for _, _, has_image in turns)
    num_kept = sum(bool(has_image or "".join(texts)) for _, texts, has_image in turns)

    assert len(result.images) == num_images
    assert sum(i > 255 for i in result.token_ids) == 3 + num_kept + 5 * num_images
    for slots in result.images:
        ids = result.token_ids[slots.start : slots.start + slots.length]
        boi, filler, eoi = (
            tokenizer.special_id(name)
            for name in ("<|begin_of_image|>", "<|endoftext|>", "<|end_of_image|>")
        )
        assert ids == (boi, filler, filler, filler, eoi)
    assert result.num_image_tokens == 5 * num_images
    assert result.num_text_tokens == len(result.token_ids) - 5 * num_images


def test_a_tokenizer_that_makes_control_tokens_of_text_is_caught(kit) -> None:
    class Broken(RealIds):
        def encode(self, text):
            return [BOI]

    with pytest.raises(InternalError):
        layout([kit.message("user", "你好")], tokenizer=Broken())


def test_a_layout_wants_one_picture_for_each_of_its_slots(kit) -> None:
    with pytest.raises(ValueError, match="zip"):
        layout([kit.message("user", kit.image())]).fill([], cache_salt=b"")


def test_answers_end_at_a_user_an_observation_or_the_end_of_text() -> None:
    assert Glm4Format(RealIds()).stop_token_ids == (151329, 151336, 151338)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["\n", "你好"], "你好"),
        (["\n你好"], "你好"),
        (["", "\n", "\n", "你好"], "\n你好"),
        (["\n\n你好"], "\n你好"),
        (["你好", "\n"], "你好\n"),
        ([" \n你好"], " \n你好"),
    ],
)
def test_one_leading_newline_is_taken_from_the_answer(pieces, shown) -> None:
    parser = Glm4Format(RealIds()).answer_parser(NO_TOOLS)
    said = [event.text for piece in pieces for event in parser.feed(piece)]
    assert "".join(said) == shown
    assert not list(parser.finish(cut=False))


def test_an_unknown_format_is_named_at_the_start() -> None:
    with pytest.raises(StartupError, match=r"'pigeon' is not supported; supported: glm4, "):
        open_format("pigeon", RealIds())
