"""Which prompts were on the device when an engine died.

A prompt that was there twice is not given a third engine. One that was there once may be innocent
company, so it is tried again, and an answer clears it.
"""

from collections import OrderedDict
from collections.abc import Iterable

MAX_CRASHES = 2
MAX_REMEMBERED = 4096


class Quarantine:
    """Counts crashes by fingerprint of the prompt; the least recently blamed are forgotten."""

    def __init__(self) -> None:
        self._crashes: OrderedDict[str, int] = OrderedDict()

    def blame(self, fingerprints: Iterable[str]) -> None:
        """Remember that these were on the device when it died; equal ones count once."""
        for fingerprint in set(fingerprints):
            self._crashes[fingerprint] = self._crashes.pop(fingerprint, 0) + 1
        while len(self._crashes) > MAX_REMEMBERED:
            self._crashes.popitem(last=False)

    def clear(self, fingerprint: str) -> None:
        """Forget one that has been answered."""
        self._crashes.pop(fingerprint, None)

    def is_suspect(self, fingerprint: str) -> bool:
        return fingerprint in self._crashes

    def is_refused(self, fingerprint: str) -> bool:
        return self._crashes.get(fingerprint, 0) >= MAX_CRASHES
