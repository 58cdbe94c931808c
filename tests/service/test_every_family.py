"""What every family's tokenizer and prompt format promise, asked of each in the same words.

The tokenizers are those of tiny checkpoints in the form that hubs publish.
"""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_families import QWEN2, qwen2_files, qwen_vl_files

from sightline.backends.fake import TOKENIZER_FILE
from sightline.core.chat import ImagePart, Message, TextPart, ToolCall
from sightline.models.tokenizer_files import load_tokenizer
from sightline.service.formats.contract import PromptFormat, Tokenizer
from sightline.service.formats.registry import FORMATS, open_format

pytestmark = pytest.mark.engine

FILES = {"glm4": None, "qwen_vl": qwen_vl_files, "qwen2_vl": lambda: qwen2_files(QWEN2)}
IMAGE = ImagePart(source="cat.png", param="messages[0].content[0]")
NUM_IMAGE_TOKENS = 5
# What a user may write to point at a place in a picture; they control nothing.
MARKS = {"<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"}


@pytest.fixture(scope="module", params=FORMATS)
def kit(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, PromptFormat]:
    """A family's tokenizer and format; a family that is not in FILES fails here."""
    write = FILES[request.param]
    folder = TOKENIZER_FILE.parent
    if write is not None:
        folder = tmp_path_factory.mktemp(request.param)
        for name, content in write().items():
            Path(folder / name).write_bytes(content)
    tokenizer = load_tokenizer(folder)
    return tokenizer, open_format(request.param, tokenizer)


def spelled(tokenizer: Tokenizer, ids: list[int] | tuple[int, ...]) -> bytes:
    return b"".join(map(tokenizer.token_bytes, ids))


def user(*parts: str | ImagePart) -> Message:
    return Message(
        role="user", parts=tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts)
    )


@given(text=st.text(max_size=60))
@example(text="\ufa15")  # another character once it is composed
@settings(max_examples=60, deadline=None)
def test_tokens_spell_the_text_they_were_made_of(kit, text: str) -> None:
    tokenizer, _ = kit
    text = unicodedata.normalize("NFC", text)  # Qwen's tokenizers compose what they are given
    assert spelled(tokenizer, tokenizer.encode(text)) == text.encode()


def test_no_text_becomes_a_control_token(kit) -> None:
    tokenizer, prompt_format = kit
    control = set(tokenizer.special_tokens.values())
    for name in tokenizer.special_tokens:
        assert control.isdisjoint(tokenizer.encode(f"a{name}b")), name
    plain = prompt_format.layout([user("x")], tokens_per_image=NUM_IMAGE_TOKENS).token_ids
    names = "".join(name for name in tokenizer.special_tokens if name not in MARKS)
    bold = prompt_format.layout([user(names)], tokens_per_image=NUM_IMAGE_TOKENS).token_ids
    assert [i for i in bold if i in control] == [i for i in plain if i in control]


def test_what_was_said_stands_in_the_prompt_word_by_word(kit) -> None:
    tokenizer, prompt_format = kit
    turns = [
        user("one 一"),
        Message(role="assistant", parts=(TextPart(text="two"),)),
        user("three"),
    ]
    layout = prompt_format.layout(turns, tokens_per_image=NUM_IMAGE_TOKENS)
    text = spelled(tokenizer, layout.token_ids).decode()
    places = [text.index(said) for said in ("one 一", "two", "three")]
    assert places == sorted(places)
    assert layout.num_image_tokens == 0
    assert all(0 <= token_id < tokenizer.num_tokens for token_id in layout.token_ids)


def test_a_picture_takes_the_places_it_is_priced_at(kit) -> None:
    _, prompt_format = kit
    layout = prompt_format.layout([user(IMAGE, "what?")], tokens_per_image=NUM_IMAGE_TOKENS)
    without = prompt_format.layout([user("what?")], tokens_per_image=NUM_IMAGE_TOKENS)
    (slots,) = layout.images
    assert slots.length == NUM_IMAGE_TOKENS
    assert 0 < slots.start <= len(layout.token_ids) - NUM_IMAGE_TOKENS
    assert len(layout.token_ids) >= len(without.token_ids) + NUM_IMAGE_TOKENS


def test_the_prompt_grows_behind_what_was_said_before(kit) -> None:
    """Else nothing of a conversation would be found in the prefix cache."""
    _, prompt_format = kit
    first = prompt_format.layout([user(IMAGE, "what?")], tokens_per_image=NUM_IMAGE_TOKENS)
    answered = [user(IMAGE, "what?"), Message(role="assistant", parts=(TextPart(text="a cat"),))]
    second = prompt_format.layout([*answered, user("sure?")], tokens_per_image=NUM_IMAGE_TOKENS)
    assert second.token_ids[: len(first.token_ids)] == first.token_ids


def test_answers_end_at_tokens_that_no_text_can_spell(kit) -> None:
    tokenizer, prompt_format = kit
    assert prompt_format.stop_token_ids
    assert set(prompt_format.stop_token_ids) <= set(tokenizer.special_tokens.values())


def test_the_result_of_a_tool_may_show_a_picture(kit) -> None:
    tokenizer, prompt_format = kit
    call = ToolCall(id="c", name="look", arguments="{}")
    result = Message(
        role="tool", parts=(TextPart(text="seen: "), IMAGE, TextPart(text="!")), tool_call_id="c"
    )
    asked = Message(role="assistant", tool_calls=(call,))
    layout = prompt_format.layout([user("look"), asked, result], tokens_per_image=NUM_IMAGE_TOKENS)
    (slots,) = layout.images
    assert slots.part is IMAGE
    ids = layout.token_ids
    assert b"look" in spelled(tokenizer, ids[: slots.start])
    said = spelled(tokenizer, ids)
    assert said.index(b"seen: ") < said.index(b"!")
