"""Tokens to text, a token at a time.

A token is a few bytes and may end inside a character: byte-level vocabularies cut 中 (E4 B8 AD)
into up to three tokens. Bytes that may still become a character wait for the next token.
"""

import codecs

from sightline.service.formats.contract import Tokenizer


class Detokenizer:
    """The text of one answer.

    All pieces joined are exactly the joined bytes decoded at once, invalid bytes becoming U+FFFD;
    no piece ends inside a character.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_holding(self) -> bool:
        """Bytes wait for the rest of their character."""
        return bool(self._decoder.getstate()[0])

    def feed(self, token_id: int) -> str:
        """Return the characters that `token_id` completes."""
        return self._decoder.decode(self._tokenizer.token_bytes(token_id))

    def finish(self) -> str:
        """Return what was held back: a character that will never be complete."""
        return self._decoder.decode(b"", final=True)
