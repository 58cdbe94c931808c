"""The service on the tokenizer that real models load, with a vocabulary of bytes."""

import asyncio
from pathlib import Path

import pytest

from sightline.backends.fake import TOKENIZER_FILE, FakeEngine
from sightline.models.tokenizer_files import load_tokenizer
from sightline.models.tokenizers import TiktokenTokenizer
from sightline.service.chat import ChatService
from sightline.service.formats.glm4 import ROLE_TOKENS, STOP_TOKENS, Glm4Format


@pytest.fixture(scope="module")
def tokenizer() -> TiktokenTokenizer:
    return load_tokenizer(TOKENIZER_FILE)


def test_it_has_every_token_that_the_format_writes(tokenizer) -> None:
    written = [*ROLE_TOKENS.values(), *STOP_TOKENS]
    ids = [tokenizer.special_id(name) for name in written]
    assert len(set(ids)) == len(set(written))
    assert all(tokenizer.token_bytes(i) == b"" for i in ids)


@pytest.mark.parametrize(
    "text", ["图中有一只猫😀", "<|user|>\n<|begin_of_image|>", " \n\n a", "\ud800"]
)
def test_text_stays_text_in_its_ids(kit, tokenizer, text) -> None:
    layout = Glm4Format(tokenizer).layout([kit.message("user", text)], tokens_per_image=18)
    body = layout.token_ids[4:-1]
    shown = b"".join(map(tokenizer.token_bytes, body)).decode()
    assert shown == text.replace("\ud800", "\ufffd")
    assert sum(tokenizer.token_bytes(i) == b"" for i in layout.token_ids) == 4


@pytest.mark.parametrize("text", ["图中有一只猫😀", "<|user|>\n<|begin_of_image|>", "  \n a"])
def test_an_echo_comes_back_as_it_was_sent(kit, text) -> None:
    async def scenario() -> str:
        service = ChatService(
            FakeEngine(),
            kit.Pictures(),
            load_tokenizer=lambda path: load_tokenizer(Path(path)),
        )
        answer = await service.start(kit.request(text))
        return kit.joined([delta async for delta in answer])

    assert asyncio.run(scenario()) == text
