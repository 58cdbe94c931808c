"""Stop strings: where an answer ends, and what may be shown before that is known.

The answer ends where the first stop string becomes complete, read character by character; of two
that become complete at the same character the longer one counts, so no part of it is shown. This
does not depend on how the text was cut into pieces.

Example with the stop string "END": "the E" shows "the " and holds "E"; "arth" releases "Earth".
"""

from collections.abc import Sequence


class StopStrings:
    """Searches one answer for stop strings, none of them empty, in time linear in the text."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._matches = [_Match(stop) for stop in stops]
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Return the text that can be shown now. After a match, nothing is shown any more."""
        if self.matched is not None:
            return ""
        if not self._matches:
            return text
        for end, character in enumerate(text, start=1):
            complete = [match.stop for match in self._matches if match.extend(character)]
            if complete:
                self.matched = max(complete, key=len)
                return self._release(text[:end], num_cut=len(self.matched))
        shown = self._release(text, num_cut=0)
        num_held = max(match.length for match in self._matches)
        self._held = shown[len(shown) - num_held :]
        return shown[: len(shown) - num_held]

    def finish(self) -> str:
        """Return the text held back, now that no more text will come."""
        return self._release("", num_cut=0)

    def _release(self, text: str, *, num_cut: int) -> str:
        """Return what was held and `text` behind it, without the last `num_cut` characters."""
        text, self._held = self._held + text, ""
        return text[: len(text) - num_cut]


class _Match:
    """How much of one stop string the end of the text spells: its first `length` characters.

    The method of Knuth, Morris and Pratt: `_shorter[n]` is the length of the longest beginning of
    the stop string, shorter than n, that its first n characters end with.
    """

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.length = 0
        self._shorter = [0, 0]
        for character in stop[1:]:
            self._shorter.append(self._longest(self._shorter[-1], character))

    def extend(self, character: str) -> bool:
        """Take one more character of the text; True when the stop string is complete."""
        self.length = self._longest(self.length, character)
        return self.length == len(self.stop)

    def _longest(self, length: int, character: str) -> int:
        while length and self.stop[length] != character:
            length = self._shorter[length]
        return length + (self.stop[length] == character)
