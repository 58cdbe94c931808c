"""A request body as it came in: its pieces, and the long runs of base64 in them.

A run is hashed while the next piece is still on its way, when its bytes are warm; a body of
megabytes whose pictures are known need never be put together.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sightline.core.limits import KIB
from sightline.media.known_base64 import LEAST_CHARS
from sightline.media.recogniser import Recogniser

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# No request may have so many pictures; behind that many nothing is looked for.
MAX_SEEN = 256
# Pieces smaller than this are put together: there would be too many to go through.
SMALL_BYTES = 64 * KIB
_BEFORE = b";base64,"


@dataclass(frozen=True, slots=True)
class Run:
    """What stands between `;base64,` and the next quote: from `start` up to `end` of a body."""

    start: int
    end: int
    digest: bytes
    begins_as_kept: bool


class Received:
    """A body that grows by `add`. `recogniser` makes a fresh one for each of its `runs`."""

    def __init__(self, recogniser: Callable[[], Recogniser]) -> None:
        self.size = 0
        self.runs: list[Run] = []
        self._pieces: list[bytes | bytearray] = []
        self._offsets: list[int] = []
        self._new_recogniser = recogniser
        self._run_start = -1  # of the run that has not ended; -1: there is none
        self._recogniser: Recogniser | None = None
        self._tail = b""  # the last bytes, in which a mark may have begun
        self._num_seen = 0

    def add(self, piece: bytes) -> None:
        self._look_through(piece)
        last = self._pieces[-1] if self._pieces else b""
        if len(piece) >= SMALL_BYTES:
            self._append(piece)
        elif isinstance(last, bytearray) and len(last) < SMALL_BYTES:
            last += piece
        else:
            self._append(bytearray(piece))
        self.size += len(piece)

    def whole(self) -> bytes:
        """Return everything, without a byte-order mark."""
        whole = b"".join(self._pieces)
        self._pieces, self._offsets = [whole], [0]
        return whole.removeprefix(BYTE_ORDER_MARK)

    def between(self, start: int, end: int) -> Iterator[memoryview]:
        """Yield what stands from `start` up to `end`, in pieces, without copying it."""
        first = max(bisect_right(self._offsets, start) - 1, 0)
        for offset, piece in zip(self._offsets[first:], self._pieces[first:], strict=True):
            if offset >= end:
                break
            yield memoryview(piece)[max(start - offset, 0) : end - offset]

    def _append(self, piece: bytes | bytearray) -> None:
        self._pieces.append(piece)
        self._offsets.append(self.size)

    def _look_through(self, piece: bytes) -> None:
        if self._recogniser is not None and self._recogniser.goes_on_with(piece):
            return
        position = 0
        while self._num_seen < MAX_SEEN:
            if self._run_start < 0:
                start = self._find_start(piece, position)
                if start < 0:
                    return
                self._num_seen += 1
                self._run_start = self.size + start
                position = start
            end = piece.find(b'"', position)
            length = self.size + end - self._run_start
            if end < 0 or length >= LEAST_CHARS:
                if self._recogniser is None:
                    self._recogniser = self._new_recogniser()
                self._recogniser.update(
                    memoryview(piece)[position : end if end >= 0 else len(piece)]
                )
            if end < 0:
                return
            if self._recogniser is not None and length >= LEAST_CHARS:
                digest, begins_as_kept = self._recogniser.digest(), self._recogniser.begins_as_kept
                self.runs.append(Run(self._run_start, self.size + end, digest, begins_as_kept))
            self._recogniser, self._run_start, position = None, -1, end

    def _find_start(self, piece: bytes, position: int) -> int:
        """Return where in `piece` the digits of a run begin, from `position` on; -1: nowhere.

        The mark before them may have begun in the piece before.
        """
        tail, self._tail = self._tail, b""
        if position == 0 and tail:
            joint = (tail + piece[: len(_BEFORE)]).find(_BEFORE)
            if joint >= 0:
                return joint + len(_BEFORE) - len(tail)
        else:
            tail = b""
        found = piece.find(_BEFORE, position)
        if found >= 0:
            return found + len(_BEFORE)
        self._tail = (tail + piece[max(position, len(piece) - len(_BEFORE) + 1) :])[
            1 - len(_BEFORE) :
        ]
        return -1
