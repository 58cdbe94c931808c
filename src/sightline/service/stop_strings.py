"""Stop strings: where an answer ends, and what may be shown before that is known.

The answer ends where the first stop string becomes complete, read character by character; of two
that become complete at the same character the longer one counts, so no part of it is shown. This
does not depend on how the text was cut into pieces.

Example with the stop string "END": "the E" shows "the " and holds "E"; "arth" releases "Earth".
"""

from collections.abc import Sequence


class StopStrings:
    """Searches one answer for stop strings (at most a handful, none of them empty)."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._max_held = max((len(stop) for stop in self._stops), default=1) - 1
        self._held = ""
        self.matched: str | None = None

    def feed(self, text: str) -> str:
        """Return the text that can be shown now. After a match, nothing is shown any more."""
        if self.matched is not None:
            return ""
        text = self._held + text
        matches = [
            (start + len(stop), start, stop)
            for stop in self._stops
            if (start := text.find(stop)) >= 0
        ]
        if matches:
            _, start, self.matched = min(matches)
            self._held = ""
            return text[:start]
        shown = len(text) - self._num_held(text)
        self._held = text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """Return the text held back, now that no more text will come."""
        held, self._held = self._held, ""
        return held

    def _num_held(self, text: str) -> int:
        """Return the length of the longest end of `text` that may begin a stop string."""
        for length in range(min(len(text), self._max_held), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
