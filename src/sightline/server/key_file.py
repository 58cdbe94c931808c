"""The file that holds API keys: names, rights and SHA-256 digests, never a key itself.

    {"version": 1, "keys": [{"id": "k3x9q2ab", "name": "dify", "sha256": "...",
      "created": "2026-11-21T12:00:00+00:00", "expires": null, "models": null,
      "requests_per_minute": 60, "tokens_per_minute": null, "images_per_minute": null}]}

It is written whole and put in place in one step, readable by its owner only.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import string
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sightline.core.errors import StartupError, shorten
from sightline.server.rate_limits import Rates

VERSION = 1
ID_LENGTH = 8
NUM_SECRET_BYTES = 32
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

_ID_LETTERS = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """One key of the file. `models` None: all; None in `rates`: the server's default."""

    key_id: str
    name: str
    digest: bytes = field(repr=False)
    created: datetime
    expires: datetime | None = None
    models: frozenset[str] | None = None
    rates: Rates = field(default_factory=Rates)


def new_key(
    name: str,
    *,
    models: Sequence[str] = (),
    rates: Rates | None = None,
    expires: datetime | None = None,
) -> tuple[str, StoredKey]:
    """Make a key. Returns its text, which is kept nowhere, and what the file holds of it."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(ID_LENGTH))
    text = f"sl-{key_id}-{secrets.token_urlsafe(NUM_SECRET_BYTES)}"
    stored = StoredKey(
        key_id=key_id,
        name=name,
        digest=hashlib.sha256(text.encode()).digest(),
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
        models=frozenset(models) or None,
        rates=rates or Rates(),
    )
    return text, stored


def modified_ns(path: Path) -> int | None:
    """Return when `path` was last written; None when there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def is_private(path: Path) -> bool:
    """Whether nobody but the owner may read or write `path`."""
    return os.name != "posix" or path.stat().st_mode & 0o077 == 0


def read_keys(path: Path) -> list[StoredKey]:
    """Return the keys of a file; none when it does not exist. Raises `StartupError`."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise _unusable(path, "is not JSON") from None
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise _unusable(path, f"is not a key file of version {VERSION}")
    rows = data.get("keys")
    try:
        assert isinstance(rows, list)
        return [_key_of(row) for row in rows]
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError):
        raise _unusable(path, "holds a key that cannot be understood") from None


def write_keys(path: Path, keys: Sequence[StoredKey]) -> None:
    """Put `keys` in the place of the file's. Raises `StartupError`."""
    text = json.dumps({"version": VERSION, "keys": [_row_of(key) for key in keys]}, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Made by mkstemp: mode 0600 from the first byte on.
        descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
    except OSError as error:
        raise _unusable(path, f"cannot be written ({error.strerror})") from None


def _key_of(row: Any) -> StoredKey:
    digest = bytes.fromhex(row["sha256"])
    assert len(digest) == hashlib.sha256().digest_size
    assert isinstance(row["name"], str)
    assert isinstance(row["id"], str)
    models = row.get("models")
    return StoredKey(
        key_id=row["id"],
        name=row["name"],
        digest=digest,
        created=_time(row["created"]),
        expires=None if row.get("expires") is None else _time(row["expires"]),
        models=None if models is None else frozenset(str(model) for model in models),
        rates=Rates(
            requests=_rate(row, "requests_per_minute"),
            tokens=_rate(row, "tokens_per_minute"),
            images=_rate(row, "images_per_minute"),
        ),
    )


def _row_of(key: StoredKey) -> dict[str, object]:
    return {
        "id": key.key_id,
        "name": key.name,
        "sha256": key.digest.hex(),
        "created": key.created.isoformat(),
        "expires": key.expires.isoformat() if key.expires else None,
        "models": sorted(key.models) if key.models is not None else None,
        "requests_per_minute": key.rates.requests,
        "tokens_per_minute": key.rates.tokens,
        "images_per_minute": key.rates.images,
    }


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _rate(row: dict[str, Any], name: str) -> int | None:
    rate = row.get(name)
    assert rate is None or (type(rate) is int and rate > 0)
    return rate


def _unusable(path: Path, what: str) -> StartupError:
    return StartupError(f"The key file {shorten(str(path), 200)} {what}.", code="key_file")
