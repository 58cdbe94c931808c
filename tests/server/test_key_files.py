"""Keys in a file: hashes on disk, changes without a restart, expiry that no clock undoes."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sightline.core.errors import StartupError
from sightline.server.key_file import StoredKey, is_private, new_key, read_keys, write_keys
from sightline.server.keys import KeyRing
from sightline.server.rate_limits import Rates


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "keys.json"


def put(file: Path, *keys: StoredKey) -> None:
    """Write keys with a time of change that differs from the one before."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    write_keys(file, keys)
    os.utime(file, ns=(before + 1, before + 1))


def test_a_key_survives_the_file(file):
    _, key = new_key(
        "dify",
        models=["glm-4v"],
        rates=Rates(requests=5, images=1),
        expires=datetime(2030, 1, 1, tzinfo=UTC),
    )
    write_keys(file, [key])
    assert read_keys(file) == [key]


def test_a10_the_disk_holds_hashes_and_only_the_owner_reads_them(file):
    text, key = new_key("dify")
    write_keys(file, [key])
    assert text.encode() not in file.read_bytes()
    assert text.split("-", 2)[2].encode() not in file.read_bytes()
    assert is_private(file)
    file.chmod(0o644)
    assert not is_private(file)


def test_keys_are_long_and_never_the_same():
    keys = {new_key("x")[0] for _ in range(50)}
    assert len(keys) == 50
    assert all(key.startswith("sl-") and len(key) >= 54 for key in keys)


def test_a_key_of_the_file_is_found_by_its_text_alone(file):
    text, key = new_key("dify")
    put(file, key)
    ring = KeyRing(file=file)
    found = ring.find(text.encode())
    assert found is not None
    assert found.name == "dify"
    for wrong in (text[:-1], text + "a", text.upper(), key.digest.hex(), key.key_id, ""):
        assert ring.find(wrong.encode()) is None


def test_changes_of_the_file_are_followed(file):
    (one, first), (two, second) = new_key("one"), new_key("two")
    put(file, first)
    ring = KeyRing(file=file)
    put(file, second)
    ring.refresh()
    assert ring.find(one.encode()) is None
    assert ring.find(two.encode()) is not None


def test_what_was_spent_stays_spent_when_the_file_changes(file):
    (one, first), (_, second) = new_key("one", rates=Rates(requests=1)), new_key("two")
    put(file, first)
    ring = KeyRing(file=file)
    holder = ring.find(one.encode())
    assert holder is not None
    put(file, first, second)
    ring.refresh()
    again = ring.find(one.encode())
    assert again is not None
    assert again.budget is holder.budget


def test_a_file_that_broke_leaves_the_keys_as_they_were(file, caplog):
    text, key = new_key("dify")
    put(file, key)
    ring = KeyRing(file=file)
    file.write_text("{")
    ring.try_refresh()
    assert ring.find(text.encode()) is not None
    assert "stay as they were" in caplog.text


def test_a_file_without_keys_lets_nobody_in(file):
    ring = KeyRing(file=file)
    assert ring
    assert len(ring) == 0
    assert ring.find(b"") is None


def test_a06_an_expired_key_stays_so_when_the_clock_is_set_back(file):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    now = start
    text, key = new_key("dify", expires=start + timedelta(days=1))
    put(file, key)
    ring = KeyRing(file=file, now=lambda: now)
    assert ring.find(text.encode()) is not None
    now = start + timedelta(days=1)
    assert ring.find(text.encode()) is None
    now = start
    assert ring.find(text.encode()) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version": 2, "keys": []}',
        '{"version": 1}',
        '{"version": 1, "keys": [{}]}',
        '{"version": 1, "keys": [1]}',
    ],
)
def test_a_file_that_is_no_key_file_is_refused(content, file):
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(StartupError, match="The key file"):
        KeyRing(file=file)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sha256", "ab"), ("requests_per_minute", 0), ("tokens_per_minute", "9"), ("expires", "x")],
)
def test_a_key_that_cannot_be_right_is_refused(name, value, file):
    write_keys(file, [new_key("dify")[1]])
    content = json.loads(file.read_text())
    content["keys"][0][name] = value
    file.write_text(json.dumps(content))
    with pytest.raises(StartupError):
        read_keys(file)
