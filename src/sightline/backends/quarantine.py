"""Which prompts were on the device when an engine died.

One that was there once is tried again, and an answer clears it. One that was there twice is not
given a third engine, unless others were there twice, too: then each of them is tried once more,
one after the other.
"""

from collections import OrderedDict
from collections.abc import Iterable

MAX_CRASHES = 3
MAX_REMEMBERED = 4096


class Quarantine:
    """Counts crashes by fingerprint of the prompt; the least recently blamed are forgotten."""

    def __init__(self) -> None:
        self._crashes: OrderedDict[str, int] = OrderedDict()

    def blame(self, fingerprints: Iterable[str]) -> None:
        """Remember that these were on the device when it died; equal ones count once.

        If just one of them was suspected before, it is the one.
        """
        blamed = set(fingerprints)
        suspects = blamed & self._crashes.keys()
        for fingerprint in blamed:
            crashes = self._crashes.pop(fingerprint, 0) + 1
            is_guilty = suspects == {fingerprint}
            self._crashes[fingerprint] = MAX_CRASHES if is_guilty else crashes
        while len(self._crashes) > MAX_REMEMBERED:
            self._crashes.popitem(last=False)

    def clear(self, fingerprint: str) -> None:
        """Forget one that has been answered."""
        self._crashes.pop(fingerprint, None)

    def is_suspect(self, fingerprint: str) -> bool:
        return fingerprint in self._crashes

    def is_tried_alone(self, fingerprint: str) -> bool:
        """Whether no other suspect may be on the device with it, from beginning to end."""
        return self._crashes.get(fingerprint, 0) > 1

    def is_refused(self, fingerprint: str) -> bool:
        return self._crashes.get(fingerprint, 0) >= MAX_CRASHES
