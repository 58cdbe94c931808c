"""The digest of a long text while it comes in, without hashing it when it is one that is kept."""

from collections.abc import Callable
from dataclasses import dataclass

from blake3 import blake3

from sightline.core.limits import KIB

# Pictures of one camera, or of one window of a screen, are alike for their first kilobytes.
BEGINNING_CHARS = 16 * KIB


@dataclass(frozen=True, slots=True)
class KeptText:
    """Base64 that came before, and its digest."""

    text: bytes
    digest: bytes


class Recogniser:
    """Takes one text piece by piece. `hasher` is fresh; `find` knows a kept text by its beginning.

    While the text goes on as the kept one does, it is only compared; what was compared is hashed
    when they part.
    """

    def __init__(self, hasher: blake3, find: Callable[[bytes], KeptText | None]) -> None:
        self._hasher = hasher
        self._find = find
        self._beginning: bytes | None = b""  # as long as it is too short to be looked up
        self._like: KeptText | None = None
        self._num_alike = 0
        self.begins_as_kept = False

    def goes_on_with(self, piece: bytes) -> bool:
        """Take all of `piece` if the kept text goes on with it; take nothing otherwise."""
        if self._like is None or not self._like.text.startswith(piece, self._num_alike):
            return False
        self._num_alike += len(piece)
        return True

    def update(self, piece: bytes | memoryview) -> None:
        if self._beginning is not None:
            self._beginning += piece
            if len(self._beginning) < BEGINNING_CHARS:
                return
            piece, self._beginning = self._beginning, None
            self._like = self._find(piece[:BEGINNING_CHARS])
            self.begins_as_kept = self._like is not None
        if self._like is not None:
            if self.goes_on_with(bytes(piece)):
                return
            self._part()
        self._hasher.update(piece)

    def digest(self) -> bytes:
        if self._like is not None:
            if self._num_alike == len(self._like.text):
                return self._like.digest
            self._part()
        return self._hasher.update(self._beginning or b"").digest()

    def _part(self) -> None:
        assert self._like is not None
        self._hasher.update(memoryview(self._like.text)[: self._num_alike])
        self._like = None
