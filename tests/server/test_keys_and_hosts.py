"""Who may come in: keys where there are keys, and no web page on loopback."""

from collections.abc import Iterator

import pytest
from front import Front, chat, serving
from starlette.routing import Route

from sightline.server.app import create_app
from sightline.server.auth import OPEN_PATHS
from sightline.server.host_guard import is_loopback

KEY, OTHER_KEY = "sl-abc123", "sl-other"
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Front]:
    with serving(Front(server_options={"api_keys": (KEY, OTHER_KEY)})) as front:
        yield front


def get_models(front: Front, *lines: bytes) -> tuple[int, object]:
    answer = front.exchange(MODELS + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    return answer.status, answer.json()


WRONG = {
    "A01 none": [],
    "A01 a scheme only": [b"Authorization: Bearer"],
    "A01 a scheme and a space": [b"Authorization: Bearer "],
    "A01 another scheme": [b"Authorization: Basic " + KEY.encode()],
    "A01 no scheme": [b"Authorization: " + KEY.encode()],
    "A01 two headers": [b"Authorization: Bearer " + KEY.encode()] * 2,
    "A01 a tab": [b"Authorization: Bearer\t" + KEY.encode()],
    "A01 non-ASCII": [b"Authorization: Bearer \xff\xfe"],
    "A01 another header": [b"X-Api-Key: " + KEY.encode()],
    "A02 one character changed": [b"Authorization: Bearer sl-abc124"],
    "A02 a prefix": [b"Authorization: Bearer sl-abc12"],
    "A02 a suffix": [b"Authorization: Bearer sl-abc1234"],
    "A02 another case": [b"Authorization: Bearer SL-ABC123"],
    "A03 SQL": [b"Authorization: Bearer ' OR '1'='1"],
    "A03 a star": [b"Authorization: Bearer *"],
    "A03 a percent sign": [b"Authorization: Bearer %"],
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_key_is_401_with_one_text_for_all(guarded: Front, case: str) -> None:
    status, body = get_models(guarded, *WRONG[case])
    assert status == 401
    assert body == {
        "error": {
            "message": "Incorrect or missing API key.",
            "type": "authentication_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER"])
@pytest.mark.parametrize("key", [KEY, OTHER_KEY])
def test_a_good_key_opens(guarded: Front, scheme: bytes, key: str) -> None:
    assert get_models(guarded, b"Authorization: " + scheme + b" " + key.encode())[0] == 200


def test_a_401_says_how_to_authenticate(guarded: Front) -> None:
    assert guarded.get("/v1/models").headers["www-authenticate"] == "Bearer"


def test_a04_every_route_and_every_method_needs_a_key(guarded: Front) -> None:
    app = create_app(guarded.service)
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    assert paths >= OPEN_PATHS
    for path in [*paths, "/", "/docs", "/openapi.json", "/metrics", "/nope", "/health/x"]:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "FOO"):
            status = guarded.request(method, path.replace("{name:path}", "x")).status_code
            assert (status == 401) == (path not in OPEN_PATHS), (method, path)


@pytest.mark.parametrize(
    "target",
    [
        b"//v1/models",
        b"/v1/models/",
        b"/health/../v1/models",
        b"/health%2f..%2fv1/models",
        b"/health;/v1/models",
        b"/%68ealth/x",
        b"/v1/models?/health",
        b"/HEALTH",
    ],
)
def test_no_spelling_of_a_path_goes_round_the_key(guarded: Front, target: bytes) -> None:
    request = b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert guarded.exchange(request).status == 401


def test_the_host_header_does_not_move_the_path(guarded: Front) -> None:
    answer = guarded.get("/v1/models", headers={"host": "127.0.0.1/health?"})
    assert answer.status_code == 400


def test_each_key_has_its_own_cache(guarded: Front) -> None:
    salts = []
    for key in (KEY, OTHER_KEY, KEY):
        guarded.post(chat("x"), authorization=f"Bearer {key}")
        salts.append(guarded.engine.requests[-1].prompt.cache_salt)
    assert salts[0] == salts[2]
    assert len(set(salts)) == 2
    assert all(KEY.encode() not in salt for salt in salts)


@pytest.mark.parametrize("host", ["evil.com", "evil.com:8888", "192.168.1.5", "127.0.0.1.evil.com"])
def test_h17_a_server_on_loopback_has_only_local_names(front: Front, host: str) -> None:
    answer = front.get("/v1/models", headers={"host": host})
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert error["code"] == "host_not_allowed"
    assert error["type"] == "permission_error"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8888", "127.8.8.8", "localhost."]
)
def test_local_names_are_let_in_with_any_port(front: Front, host: str) -> None:
    assert front.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.com", "https://evil.com", "null", "http://", "http://[", "x", "file", "a://"],
)
def test_a_page_of_another_site_is_refused(front: Front, origin: str) -> None:
    answer = front.post(chat("x"), origin=origin)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3000",
        "http://127.0.0.1:8888",
        "app://obsidian.md",
        "tauri://x",
        "http://tauri.localhost",  # Tauri's apps on Windows
        "file://",  # Electron says so of the pages of an app; browsers say null of a file's
    ],
)
def test_local_pages_and_desktop_apps_are_let_in(front: Front, origin: str) -> None:
    assert front.post(chat("x"), origin=origin).status_code == 200


def test_more_names_can_be_allowed() -> None:
    with serving(Front(server_options={"allowed_hosts": ("box.lan",)})) as front:
        assert front.get("/v1/models", headers={"host": "Box.LAN:80"}).status_code == 200
        assert front.get("/v1/models", headers={"host": "other.lan"}).status_code == 403


def test_a_server_on_the_network_takes_any_name_and_asks_for_the_key() -> None:
    options = {"bind_host": "0.0.0.0", "api_keys": (KEY,)}
    with serving(Front(server_options=options)) as front:
        headers = {"host": "example.org", "origin": "http://evil.com"}
        assert front.get("/v1/models", headers=headers).status_code == 401
        headers["authorization"] = f"Bearer {KEY}"
        assert front.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("app.LOCALHOST.", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.com", False),
        ("evillocalhost", False),
        ("", False),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
