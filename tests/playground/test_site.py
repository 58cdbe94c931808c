"""The pages as files: what is shipped is what NOTICE says, small, compressed, of one piece."""

import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from front import Front, serving

from sightline.playground.site import GUARDED, PAGES, STATIC, Site

ROOT = Path(__file__).parents[2]
VENDOR = STATIC / "vendor"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with serving(Front(site=Site(), server_options={"api_keys": ("sl-key",)})) as front:
        yield front


def parts_of(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="(/playground/[^"]+)"', page)


def test_every_vendored_file_is_the_one_that_notice_names() -> None:
    notice = (ROOT / "NOTICE").read_text()
    named = {
        name: digest for digest, name in re.findall(r"^ +([0-9a-f]{64})  (\S+)$", notice, re.M)
    }
    shipped = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file()
    }
    assert named == shipped


def test_every_vendored_package_brings_its_licence() -> None:
    assert all((folder / "LICENSE").is_file() for folder in VENDOR.iterdir())


def test_what_is_vendored_is_less_than_two_megabytes() -> None:
    assert sum(path.stat().st_size for path in VENDOR.rglob("*") if path.is_file()) < 2_000_000


@pytest.mark.parametrize("path", PAGES)
def test_a_page_and_every_part_of_it_can_be_seen_without_a_key(front: Front, path: str) -> None:
    page = front.get(path, headers=BROWSER)
    assert page.status_code == (401 if path == GUARDED else 200)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    parts = parts_of(page.text)
    assert parts
    for part in parts:
        assert front.get(part).status_code == 200, part


@pytest.mark.parametrize("path", PAGES)
def test_a_page_runs_only_scripts_of_its_own_server(front: Front, path: str) -> None:
    page = front.get(path, headers=BROWSER)
    policy = page.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page.text)


def test_only_the_comparing_page_may_talk_to_other_servers(front: Front) -> None:
    for path in PAGES:
        connect = re.search(
            r"connect-src ([^;]*);",
            front.get(path, headers=BROWSER).headers["content-security-policy"],
        )
        assert connect is not None
        assert connect[1] == ("'self' http: https:" if path == "/compare" else "'self'")


def test_a_part_is_compressed_and_kept_for_ever(front: Front, site: Site) -> None:
    path = f"/playground/{site.version}/js/app.js"
    answer = front.get(path, headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == (STATIC / "js" / "app.js").read_bytes()
    assert int(answer.headers["content-length"]) < len(answer.content) / 2


def test_a_client_that_takes_no_gzip_gets_none(front: Front, site: Site) -> None:
    path = f"/playground/{site.version}/js/app.js"
    for accepted in ("identity", "gzip;q=0", "br"):
        answer = front.get(path, headers={"accept-encoding": accepted})
        assert "content-encoding" not in answer.headers
        assert answer.content == (STATIC / "js" / "app.js").read_bytes()


def test_a_page_that_has_not_changed_is_not_sent_again(front: Front) -> None:
    etag = front.get("/").headers["etag"]
    again = front.get("/", headers={"if-none-match": etag})
    assert (again.status_code, again.content) == (304, b"")


def test_a_part_of_another_version_is_gone_in_openai_form(front: Front, site: Site) -> None:
    for path in (
        "/playground/000000000000/js/app.js",
        f"/playground/{site.version}/js/nope.js",
        f"/playground/{site.version}/index.html",
        f"/playground/{site.version}/../site.py",
    ):
        answer = front.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "unknown_url"


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<html></html>")
    (tmp_path / "a.js").write_text("1")
    before = Site(tmp_path).version
    (tmp_path / "a.js").write_text("2")
    assert Site(tmp_path).version != before


def test_gzip_gives_the_file_back(site: Site) -> None:
    file = site.find("/")
    assert file is not None
    assert file.gzipped is not None
    assert gzip.decompress(file.gzipped) == file.body


def test_no_part_names_another_host() -> None:
    for path in [*STATIC.rglob("*.js"), *STATIC.rglob("*.css"), *STATIC.rglob("*.html")]:
        if VENDOR in path.parents:
            continue
        addresses = set(re.findall(r"https?://[\w.-]+", path.read_text("utf-8")))
        # A namespace, and what an empty field shows.
        assert addresses <= {"http://www.w3.org", "https://example.org", "http://127.0.0.1"}, path
