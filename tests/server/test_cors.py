"""Pages of other sites: closed, except for origins that were named."""

from collections.abc import Iterator

import pytest
from front import Front, chat, serving

from sightline.core.errors import StartupError
from sightline.server.cors import checked_origins

KEY = "sl-pages"
SITE = "https://chat.example.org"


@pytest.fixture(scope="module", params=[(), (KEY,)], ids=["without keys", "with keys"])
def open_front(request: pytest.FixtureRequest) -> Iterator[Front]:
    options = {"allowed_origins": (SITE,), "api_keys": request.param}
    with serving(Front(server_options=options)) as front:
        yield front


def test_a_named_origin_may_ask_and_read(open_front: Front) -> None:
    answer = open_front.post(chat("x"), origin=SITE, authorization=f"Bearer {KEY}")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SITE
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    assert answer.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "name",
    ["retry-after-ms", "x-should-retry", "x-ratelimit-limit-images", "x-ratelimit-reset-images"],
)
def test_a_named_origin_may_read_what_its_sdk_obeys(open_front: Front, name: str) -> None:
    answer = open_front.get("/health/live", headers={"origin": SITE})
    assert name in answer.headers["access-control-expose-headers"].split(", ")


def test_a_refusal_can_be_read_too(open_front: Front) -> None:
    answer = open_front.post({}, origin=SITE, authorization=f"Bearer {KEY}")
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == SITE


def test_a_preflight_needs_no_key_and_reaches_no_route(open_front: Front) -> None:
    answer = open_front.request(
        "OPTIONS",
        "/v1/chat/completions",
        headers={
            "origin": SITE,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, content-type",
        },
    )
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == SITE
    assert answer.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "access-control-allow-credentials" not in answer.headers


def test_a_preflight_names_every_method_that_a_path_takes(open_front: Front) -> None:
    headers = {"origin": SITE, "access-control-request-method": "DELETE"}
    answer = open_front.request("OPTIONS", "/v1/responses/resp_1", headers=headers)
    named = set(answer.headers["access-control-allow-methods"].split(", "))
    page = {"origin": SITE, "authorization": f"Bearer {KEY}"}
    paths = open_front.get("/openapi.json", headers=page).json()["paths"]
    assert named == {method.upper() for path in paths.values() for method in path} | {"HEAD"}


@pytest.mark.parametrize("origin", ["https://evil.example", SITE + ":8443", SITE + ".evil", "null"])
def test_no_other_origin_is_told_anything(open_front: Front, origin: str) -> None:
    for method in ("OPTIONS", "POST"):
        answer = open_front.request(
            method,
            "/v1/chat/completions",
            headers={"origin": origin, "access-control-request-method": "POST"},
        )
        assert answer.status_code in (401, 403)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["*", "example.org", "https://", "https://a/b", "https://*.org"])
def test_what_is_no_origin_cannot_be_named(origin: str) -> None:
    with pytest.raises(StartupError, match="is not an origin"):
        checked_origins([origin])
