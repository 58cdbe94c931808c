import json
import stat


def test_a_key_is_shown_once_listed_and_revoked(sightline):
    added = sightline("keys", "add", "dify", "--requests-per-minute", "60", "--days", "3")
    assert added.status == 0
    key = added.out.strip()
    assert key.startswith("sl-")
    file = sightline.folder / ".config/sightline/keys.json"
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    listed = sightline("keys", "list")
    assert "dify" in listed.out
    assert "60 requests/min" in listed.out
    assert key not in listed.out
    assert sightline("keys", "revoke", "dify").status == 0
    assert json.loads(file.read_text())["keys"] == []


def test_names_are_unique_and_plain(sightline):
    sightline("keys", "add", "dify")
    again = sightline("keys", "add", "dify")
    assert (again.status, again.out) == (2, "")
    assert "already" in again.err
    assert sightline("keys", "add", "a b").status == 2


def test_the_file_can_be_named_and_is_followed_by_its_id(sightline):
    sightline("keys", "add", "dify", "--key-file", "mine.json")
    file = sightline.folder / "mine.json"
    key_id = json.loads(file.read_text())["keys"][0]["id"]
    assert sightline("keys", "revoke", key_id, SIGHTLINE_KEY_FILE="mine.json").status == 0
    assert sightline("keys", "revoke", "dify", "--key-file", "mine.json").status == 2


def test_a_broken_file_is_refused_in_both_languages(sightline):
    (sightline.folder / "keys.json").write_text("{")
    english = sightline("keys", "list", "--key-file", "keys.json")
    assert (english.status, "is not JSON" in english.err) == (2, True)
    chinese = sightline("keys", "list", "--key-file", "keys.json", "--lang", "zh")
    assert "密钥文件不可用" in chinese.err
