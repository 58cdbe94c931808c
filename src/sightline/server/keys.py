"""The API keys of a server: who holds one, and what it is good for.

Only SHA-256 digests are kept. A key that is looked for is compared in constant time with all of
them, so that time tells nothing about any.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sightline.core.errors import RequestError, StartupError, shorten
from sightline.server.key_file import StoredKey, modified_ns, read_keys
from sightline.server.rate_limits import Budget, Rates

logger = logging.getLogger("sightline.server")


def key_digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHolder:
    """A key in use; the service knows it as its `Caller`. `models` None: all of them."""

    key_id: str
    name: str
    digest: bytes = field(repr=False)
    budget: Budget = field(repr=False)
    models: frozenset[str] | None = None
    expires: datetime | None = None

    def require_model(self, name: str) -> None:
        if self.models is not None and name not in self.models:
            raise RequestError(
                f"This key may not use model '{shorten(name)}'.",
                code="key_not_allowed",
            )

    def require_images(self, num_images: int) -> None:
        if num_images:
            self.budget.require("images")

    def charge(self, *, tokens: int = 0, images: int = 0) -> None:
        self.budget.take("tokens", tokens)
        self.budget.take("images", images)


class KeyRing:
    """All keys: those given at the start, and those of a file, which may change meanwhile.

    `rates` are the limits of keys that have none of their own. `now` tells the time of day, for
    keys that expire; one that has expired stays so, even if the clock is set back. The constructor
    and `refresh` read the file and raise `StartupError`.
    """

    def __init__(
        self,
        keys: Sequence[str] = (),
        *,
        file: Path | None = None,
        rates: Rates | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rates = rates or Rates()
        self._now = now
        self._clock = clock
        self._expired: set[bytes] = set()
        self._given = tuple(self._from_text(key, f"key-{i + 1}") for i, key in enumerate(keys))
        self._file = file
        self._seen_ns: int | None = None
        self._holders = self._given
        self.nobody = KeyHolder(key_id="", name="", digest=b"", budget=self._budget(Rates()))
        self.refresh()

    def __bool__(self) -> bool:
        """Whether a key is needed: any key was given, or there is a file for them."""
        return bool(self._given) or self._file is not None

    def __len__(self) -> int:
        return len(self._holders)

    def refresh(self) -> None:
        """Read the file again if it has changed. Budgets of keys whose rates stay are kept.

        Reads from disk; may be called in a thread.
        """
        if self._file is None or (changed_ns := modified_ns(self._file)) == self._seen_ns:
            return
        before = {holder.digest: holder for holder in self._holders}
        stored = [self._from_file(key, before) for key in read_keys(self._file)]
        self._holders = (*self._given, *stored)
        self._seen_ns = changed_ns

    def try_refresh(self) -> None:
        """Refresh; a file that cannot be read leaves the keys as they were, with a warning."""
        try:
            self.refresh()
        except StartupError as error:
            logger.warning("%s The keys stay as they were.", error.message)

    def find(self, key: bytes) -> KeyHolder | None:
        """Return who holds `key`, or None. Every key is visited, whichever matches."""
        given = key_digest(key)
        found: KeyHolder | None = None
        for holder in self._holders:
            if hmac.compare_digest(holder.digest, given):
                found = holder
        return None if found is None or self._has_expired(found) else found

    def _has_expired(self, holder: KeyHolder) -> bool:
        if holder.expires is None:
            return False
        if self._now() >= holder.expires:
            self._expired.add(holder.digest)
        return holder.digest in self._expired

    def _from_text(self, key: str, name: str) -> KeyHolder:
        digest = key_digest(key.encode())
        return KeyHolder(
            key_id=digest.hex()[:8], name=name, digest=digest, budget=self._budget(Rates())
        )

    def _from_file(self, key: StoredKey, before: dict[bytes, KeyHolder]) -> KeyHolder:
        budget = self._budget(key.rates)
        known = before.get(key.digest)
        if known is not None and known.budget.rates == budget.rates:
            budget = known.budget
        return KeyHolder(
            key_id=key.key_id,
            name=key.name,
            digest=key.digest,
            budget=budget,
            models=key.models,
            expires=key.expires,
        )

    def _budget(self, own: Rates) -> Budget:
        return Budget(own.filled_up(self._rates), self._clock)
