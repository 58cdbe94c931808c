"""Byte-pair tokenizers: ranks of byte strings, and control tokens beside them.

Text and control tokens never mix: `encode` knows only the ranks, so no text, whatever it spells,
can become a control token. Control ids are asked for by name.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping

import tiktoken

from sightline.core.errors import StartupError, shorten

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GLM4_SPLIT_PATTERN = SPLIT_PATTERN % "{1,3}"
QWEN_SPLIT_PATTERN = SPLIT_PATTERN % ""

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
        composes: bool = False,
        spoken: Collection[str] = (),
    ) -> None:
        """`ranks` cover 0 to their number - 1 and every single byte; see `load` for checks.

        With `composes` text is brought to Unicode's composed form (NFC) first. The control tokens
        in `spoken` stand for their own names in an answer; text never becomes them either.
        """
        self.special_tokens = dict(special_tokens)
        self._composes = composes
        self._encoding = tiktoken.Encoding(
            "sightline", pat_str=split_pattern, mergeable_ranks=dict(ranks), special_tokens={}
        )
        self._token_bytes = [b""] * (max((len(ranks) - 1, *special_tokens.values())) + 1)
        for piece, rank in ranks.items():
            self._token_bytes[rank] = piece
        for name in spoken:
            self._token_bytes[special_tokens[name]] = name.encode()

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
        text = _well_formed(text)
        if self._composes:
            text = unicodedata.normalize("NFC", text)
        for start, end in _blank_runs(text):
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
