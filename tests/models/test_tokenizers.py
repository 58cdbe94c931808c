import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import StartupError
from sightline.models import tokenizers
from sightline.models.tokenizer_files import GLM4_SPECIAL_TOKENS, load_tokenizer
from sightline.models.tokenizers import GLM4_SPLIT_PATTERN, TiktokenTokenizer

WriteRanks = Callable[[Path, Mapping[bytes, int]], None]

BYTES = {bytes([byte]): byte for byte in range(256)}
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


def tokenizer_of(ranks: Mapping[bytes, int]) -> TiktokenTokenizer:
    specials = {name: len(ranks) + i for i, name in enumerate(GLM4_SPECIAL_TOKENS)}
    return TiktokenTokenizer(ranks, specials)


def decode(tokenizer: TiktokenTokenizer, ids: list[int]) -> bytes:
    return b"".join(tokenizer.token_bytes(token_id) for token_id in ids)


OF_BYTES = tokenizer_of(BYTES)


@pytest.fixture
def tokenizer(ranks: dict[bytes, int]) -> TiktokenTokenizer:
    return tokenizer_of(ranks)


# Encoding


@given(TEXTS)
def test_decoding_gives_back_any_text(text: str) -> None:
    assert decode(OF_BYTES, OF_BYTES.encode(text)).decode() == text


def test_pieces_are_merged_by_rank(tokenizer: TiktokenTokenizer, ranks: dict[bytes, int]) -> None:
    assert tokenizer.encode("hello 你好") == [
        ranks[b"hello"],
        *(ranks[b" "] for _ in range(1)),
        ranks["你好".encode()],
    ]


@pytest.mark.parametrize("name", [*GLM4_SPECIAL_TOKENS, "<|image|>", "<|im_end|>", "</s>"])
def test_a_control_token_spelled_in_text_stays_text(
    tokenizer: TiktokenTokenizer, name: str
) -> None:
    ids = tokenizer.encode(f"a{name}b")
    assert set(ids).isdisjoint(tokenizer.special_tokens.values())
    assert decode(tokenizer, ids).decode() == f"a{name}b"


def test_header_and_body_encoded_apart_differ_from_the_joined_string(
    tokenizer: TiktokenTokenizer, ranks: dict[bytes, int]
) -> None:
    apart = tokenizer.encode("\n") + tokenizer.encode("\nhello")
    assert apart == [10, 10, ranks[b"hello"]]
    assert tokenizer.encode("\n\nhello") == [ranks[b"\n\n"], ranks[b"hello"]]


@pytest.mark.parametrize(
    ("text", "read_as"),
    [("a\ud800b", "a\ufffdb"), ("\udfff", "\ufffd"), ("\ud83d\ude00", "\U0001f600")],
)
def test_surrogates_are_read_as_utf16_would(
    tokenizer: TiktokenTokenizer, text: str, read_as: str
) -> None:
    assert decode(tokenizer, tokenizer.encode(text)).decode() == read_as


# Long runs


BLANKS_AND_OTHERS = st.text(alphabet=" \t\u3000\x85\x1c\u200b\n\ra1.你\u0301'", max_size=40)


BLANK_RANKS = BYTES | {
    piece: 256 + i
    for i, piece in enumerate([b"  ", b"   ", b" \t", b"\n\n", b" a", b" .", b"  \n"])
}
OF_BLANKS = tokenizer_of(BLANK_RANKS)
PLAIN = tiktoken.Encoding(
    "plain", pat_str=GLM4_SPLIT_PATTERN, mergeable_ranks=BLANK_RANKS, special_tokens={}
)


@given(BLANKS_AND_OTHERS)
@settings(max_examples=300)
def test_cutting_out_blank_runs_changes_no_id(text: str) -> None:
    """The cut for very long runs, applied to runs of two, against the plain pattern."""
    with pytest.MonkeyPatch.context() as patch:
        short_runs = tokenizers.re.compile(f"{tokenizers.BLANK}{{2,}}")
        patch.setattr(tokenizers, "LONG_BLANK_RUN", short_runs)
        assert OF_BLANKS.encode(text) == PLAIN.encode_ordinary(text)


@pytest.mark.parametrize(
    "text",
    [" " * 1_100_000, " " * 1_100_000 + "x", "x\n" + "\t " * 550_000 + "7", "\u3000" * 1_100_000],
    ids=["spaces", "spaces then text", "mixed blanks", "wide spaces"],
)
def test_a_million_blanks_are_one_long_piece(text: str) -> None:
    assert decode(OF_BYTES, OF_BYTES.encode(text)).decode() == text


@pytest.mark.parametrize("unit", ["a", "\U0001f600", " ", "\n", "e\u0301", "\u202e\u200b", "你"])
def test_twice_the_text_takes_about_twice_the_time(tokenizer: TiktokenTokenizer, unit: str) -> None:
    """A square would be 4 times; thread time and the best of three keep neighbours out of it."""

    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        spent = []
        for _ in range(3):
            start = time.thread_time()
            tokenizer.encode(text)
            spent.append(time.thread_time() - start)
        return min(spent)

    assert seconds(1 << 17) < 3 * seconds(1 << 16) + 0.01


# Files


def test_control_tokens_stand_after_the_ranks_in_glm4_order(
    tmp_path: Path, ranks: dict[bytes, int], write_ranks: WriteRanks
) -> None:
    write_ranks(tmp_path, ranks)
    tokenizer = load_tokenizer(tmp_path)
    first = len(ranks)
    assert tokenizer.special_id("<|endoftext|>") == first
    assert tokenizer.special_id("[gMASK]") == first + 2
    assert tokenizer.special_id("<|user|>") == first + 7
    assert tokenizer.special_id("<|end_of_image|>") == first + 11
    assert tokenizer.num_tokens == first + 14
    assert tokenizer.token_bytes(first) == b""


def test_ids_of_the_tokenizer_config_win(
    tmp_path: Path, ranks: dict[bytes, int], write_ranks: WriteRanks
) -> None:
    write_ranks(tmp_path, ranks)
    table = {"400": {"content": "<|user|>"}, "401": {"content": "<|mine|>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": table}))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.special_id("<|user|>"), tokenizer.special_id("<|mine|>")) == (400, 401)
    assert tokenizer.num_tokens == 402
    assert tokenizer.token_bytes(399) == b""


def test_a_tokenizer_config_without_the_table_changes_nothing(
    tmp_path: Path, ranks: dict[bytes, int], write_ranks: WriteRanks
) -> None:
    write_ranks(tmp_path, ranks)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert load_tokenizer(tmp_path).special_id("[MASK]") == len(ranks) + 1


def test_the_file_itself_may_be_named(
    tmp_path: Path, ranks: dict[bytes, int], write_ranks: WriteRanks
) -> None:
    write_ranks(tmp_path, ranks)
    assert load_tokenizer(tmp_path / "tokenizer.model").num_tokens == len(ranks) + 14


def test_windows_line_ends_and_blank_lines_are_read(
    tmp_path: Path, ranks: dict[bytes, int], write_ranks: WriteRanks
) -> None:
    write_ranks(tmp_path, ranks)
    path = tmp_path / "tokenizer.model"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert load_tokenizer(tmp_path).num_tokens == len(ranks) + 14


def test_an_unknown_control_token_is_named(tokenizer: TiktokenTokenizer) -> None:
    with pytest.raises(StartupError, match="no control token '<\\|video\\|>'"):
        tokenizer.special_id("<|video|>")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x0a\x0e\x0a\x05<unk>\x15\x00", "line 2: expected 'base64 rank'"),
        (b"AA== 0\nAQ== 2\n", "line 2: expected rank 1"),
        (b"AA== 0\nAA== 1\n", "line 2: expected rank 1 and a piece not listed before"),
        (b"AA== 0\nA?== 1\n", "line 2: expected 'base64 rank'"),
        (b"AA== 0\nAQ 1\n", "line 2: expected 'base64 rank'"),
        (b"AA== 0\nAQ== -1\n", "line 2: expected 'base64 rank'"),
        (b"AA== 0\nAQ== 1\n", "no rank for byte 2"),
        (b"AA== " + b"9" * 5000, "line 1: expected 'base64 rank'"),
    ],
)
def test_a_broken_rank_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(StartupError, match=r"^tokenizer\.model") as caught:
        load_tokenizer(tmp_path)
    assert message in caught.value.message
    assert len(caught.value.message) <= 300


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "an object of id: token"),
        ({}, "an object of id: token"),
        ({"x": {"content": "<a>"}}, "id 'x' of '<a>'"),
        ({"5": {"content": "<a>"}}, "id '5' of '<a>' is not a number from 272"),
        ({"9" * 40: {"content": "<a>"}}, "to 4194304"),
        ({"300": {}}, "'300' has no 'content'"),
        ({"300": "<a>"}, "'300' has no 'content'"),
        ({"300": {"content": "<a>"}, "301": {"content": "<a>"}}, "'<a>' has two ids"),
        ({"300": {"content": "<a>"}, "0300": {"content": "<b>"}}, "one id stands for two"),
    ],
)
def test_a_broken_table_of_control_tokens_is_refused(
    tmp_path: Path, ranks: dict[bytes, int], write_ranks: WriteRanks, table: Any, message: str
) -> None:
    write_ranks(tmp_path, ranks)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": table}))
    with pytest.raises(StartupError, match="added_tokens_decoder") as caught:
        load_tokenizer(tmp_path)
    assert message in caught.value.message
    assert len(caught.value.message) <= 300


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"holds no tokenizer; known: tokenizer\.model"):
        load_tokenizer(tmp_path)


def test_the_tokenizer_needs_no_torch() -> None:
    code = "import sys, sightline.models.tokenizer_files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
