"""Tokenizers in tiktoken format: a file of "base64 rank" lines, and control tokens beside it.

Text and control tokens never mix: `encode` knows only the ranks, so no text, whatever it spells,
can become a control token. Control ids are asked for by name.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path

import tiktoken

from sightline.core.errors import StartupError, shorten
from sightline.models.hub_files import checked_folder, read_file, read_json, what_it_looks_like

TOKENIZER_FILE = "tokenizer.model"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
MAX_TOKENIZER_BYTES = 64 * 1024 * 1024
MAX_TOKEN_ID = 4_194_304

GLM4_SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GLM4_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)

RANK_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2})[ \t]+([0-9]{1,7})\s*")

# What `\s` means in the pattern, line breaks left out; Python's own `\s` is another set.
BLANK = "[\t\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
LONG_BLANK_RUN = re.compile(f"{BLANK}{{4096,}}")


class TiktokenTokenizer:
    """A vocabulary: ranks of byte strings first, then control tokens.

    Immutable after construction; any thread may use it.
    """

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        special_tokens: Mapping[str, int],
        *,
        split_pattern: str = GLM4_SPLIT_PATTERN,
    ) -> None:
        """`ranks` cover 0 to their number - 1 and every single byte; see `load` for checks."""
        self.special_tokens = dict(special_tokens)
        self._encoding = tiktoken.Encoding(
            "sightline", pat_str=split_pattern, mergeable_ranks=dict(ranks), special_tokens={}
        )
        self._token_bytes = [b""] * (max((len(ranks) - 1, *special_tokens.values())) + 1)
        for piece, rank in ranks.items():
            self._token_bytes[rank] = piece

    @classmethod
    def load(cls, path: Path) -> "TiktokenTokenizer":
        """Load a model folder's tokenizer; `path` is the folder or its tokenizer.model.

        Control tokens have the ids that `added_tokens_decoder` in tokenizer_config.json gives
        them. Without that table GLM-4's stand right after the ranks, in its order. Raises
        StartupError naming file and line.
        """
        folder = checked_folder(path.parent if path.name == TOKENIZER_FILE else path)
        ranks = _parse_ranks(read_file(folder, TOKENIZER_FILE, max_bytes=MAX_TOKENIZER_BYTES))
        return cls(ranks, _special_tokens(folder, len(ranks)))

    @property
    def num_tokens(self) -> int:
        """One more than the highest id in use. Ids from here on must never be sampled."""
        return len(self._token_bytes)

    def encode(self, text: str) -> list[int]:
        """Encode ordinary text; control tokens spelled in it stay text.

        A surrogate that is not half of a pair is encoded as U+FFFD. The time grows in proportion
        to the length, whatever the text.
        """
        ids: list[int] = []
        done = 0
        for start, end in _blank_runs(text := _well_formed(text)):
            ids += self._encoding.encode_ordinary(text[done:start])
            ids += self._encoding._encode_single_piece(text[start:end])
            done = end
        ids += self._encoding.encode_ordinary(text[done:])
        return ids

    def special_id(self, name: str) -> int:
        """Return the id of a control token. Raises StartupError if there is none of that name."""
        try:
            return self.special_tokens[name]
        except KeyError:
            raise StartupError(f"The tokenizer has no control token {shorten(name)!r}.") from None

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that `token_id` stands for: none for control tokens and unused ids."""
        return self._token_bytes[token_id]


def _blank_runs(text: str) -> list[tuple[int, int]]:
    """Return the stretches [start, end) that are one piece each and too long for the pattern.

    The pattern's look-ahead `\\s+(?!\\S)` backtracks blank by blank and overflows the matcher's
    stack on about a million of them. Its meaning is simple, so long runs are cut out here: a run
    without line breaks is one piece, except for its last blank when text follows, which goes with
    that text. Line breaks behind the run would belong to its piece, so such a run is left alone;
    the matcher handles it without backtracking.
    """
    runs = []
    for match in LONG_BLANK_RUN.finditer(text):
        start, end = match.span()
        if end == len(text):
            runs.append((start, end))
        elif text[end] not in "\r\n":
            runs.append((start, end - 1))
    return runs


def _well_formed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _parse_ranks(content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        piece, rank = _parse_line(line, number, content)
        if rank != len(ranks) or piece in ranks:
            raise _broken(number, f"expected rank {len(ranks)} and a piece not listed before")
        ranks[piece] = rank
    missing = next((byte for byte in range(256) if bytes([byte]) not in ranks), None)
    if missing is not None:
        raise StartupError(
            f"{TOKENIZER_FILE} is {what_it_looks_like(content)}: no rank for byte {missing}."
        )
    return ranks


def _parse_line(line: bytes, number: int, content: bytes) -> tuple[bytes, int]:
    match = RANK_LINE.fullmatch(line)
    try:
        if match is not None:
            return base64.b64decode(match[1], validate=True), int(match[2])
    except binascii.Error:
        pass
    kind = what_it_looks_like(content)
    if kind != "broken":
        raise StartupError(f"{TOKENIZER_FILE} is {kind}, not tiktoken ranks.")
    raise _broken(number, "expected 'base64 rank'")


def _broken(number: int, expected: str) -> StartupError:
    return StartupError(
        f"{TOKENIZER_FILE}, line {number}: {expected}; not a complete file in tiktoken format."
    )


def _special_tokens(folder: Path, num_ranks: int) -> dict[str, int]:
    table = (
        read_json(folder, TOKENIZER_CONFIG_FILE).get("added_tokens_decoder")
        if (folder / TOKENIZER_CONFIG_FILE).exists()
        else None
    )
    if table is None:
        return {name: num_ranks + index for index, name in enumerate(GLM4_SPECIAL_TOKENS)}
    where = f"{TOKENIZER_CONFIG_FILE}, added_tokens_decoder"
    if not isinstance(table, dict) or not table:
        raise StartupError(f"{where}: expected an object of id: token.")
    special_tokens: dict[str, int] = {}
    for key, token in table.items():
        name = token.get("content") if isinstance(token, dict) else None
        if not isinstance(name, str) or not name:
            raise StartupError(f"{where}: {shorten(key)!r} has no 'content'.")
        if not (key.isascii() and key.isdigit() and num_ranks <= int(key[:10]) <= MAX_TOKEN_ID):
            raise StartupError(
                f"{where}: id {shorten(key)!r} of {shorten(name)!r} is not a number from "
                f"{num_ranks} (the ranks end there) to {MAX_TOKEN_ID}."
            )
        if name in special_tokens:
            raise StartupError(f"{where}: {shorten(name)!r} has two ids.")
        special_tokens[name] = int(key)
    if len(set(special_tokens.values())) < len(special_tokens):
        raise StartupError(f"{where}: one id stands for two tokens.")
    return special_tokens
