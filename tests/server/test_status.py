"""The state of the server and its last requests, for the page that shows them."""

from collections.abc import Iterator

import pytest
from front import PICTURE, Front, chat, serving

from sightline.server.context import RequestContext
from sightline.server.recent import MAX_REQUESTS, RecentRequests
from sightline.service.transcript import MAX_CHARACTERS

KEY, OTHER_KEY = "sl-one", "sl-two"
SECRET = "the colour of my front door"


@pytest.fixture
def fresh() -> Iterator[Front]:
    with serving(Front()) as front:
        yield front


@pytest.fixture(scope="module")
def inspected() -> Iterator[Front]:
    options = {"inspect_content": True, "api_keys": (KEY, OTHER_KEY)}
    with serving(Front(server_options=options)) as front:
        yield front


def last_request(front: Front, **headers: str) -> dict[str, object]:
    request: dict[str, object] = front.get("/v1/server/requests", headers=headers).json()["data"][0]
    return request


def test_the_status_tells_what_runs(fresh: Front) -> None:
    status = fresh.get("/v1/server/status").json()
    assert status["model"]["id"] == "sightline-fake"
    assert status["engine"]["num_running"] == 0
    assert status["recent_errors"] == []
    assert status["uptime_s"] >= 0


def test_a_request_is_listed_with_its_times_and_costs(fresh: Front) -> None:
    answer = fresh.post(chat("What is this?", PICTURE))
    request = last_request(fresh)
    assert request["id"] == answer.headers["x-request-id"]
    assert request["status"] == 200
    assert request["is_running"] is False
    assert request["image_tokens"] == 18
    assert request["prompt_tokens"] == answer.json()["usage"]["prompt_tokens"]
    timings = request["timings"]
    assert isinstance(timings, dict)
    assert {"queue_s", "fetch_s", "decode_image_s", "prefill_s", "decode_s"} <= timings.keys()


def test_content_is_not_kept_unless_the_operator_asked(fresh: Front) -> None:
    fresh.post(chat(SECRET))
    listed = fresh.get("/v1/server/requests")
    assert listed.json()["shows_content"] is False
    assert SECRET not in listed.text


def test_inspected_content_is_shown_to_the_key_that_sent_it_alone(inspected: Front) -> None:
    inspected.post(chat(SECRET, PICTURE), authorization=f"Bearer {KEY}")
    mine = last_request(inspected, authorization=f"Bearer {KEY}")
    content = mine["content"]
    assert isinstance(content, dict)
    assert SECRET in content["messages"][0]["text"]
    assert SECRET in content["answer"]  # the fake engine repeats the question
    assert PICTURE not in content["messages"][0]["text"] or len(PICTURE) < 64
    theirs = inspected.get("/v1/server/requests", headers={"authorization": f"Bearer {OTHER_KEY}"})
    assert theirs.json()["data"][0]["id"] == mine["id"]
    assert SECRET not in theirs.text


def test_what_is_kept_of_a_request_is_bounded(inspected: Front) -> None:
    body = chat("x" * (MAX_CHARACTERS + 1))
    inspected.post(body, authorization=f"Bearer {KEY}")
    content = last_request(inspected, authorization=f"Bearer {KEY}")["content"]
    assert isinstance(content, dict)
    assert len(content["messages"][0]["text"]) == MAX_CHARACTERS


def test_errors_are_listed_with_their_codes(fresh: Front) -> None:
    fresh.get("/v1/nope")
    fresh.post(chat("hello", "data:broken"))
    codes = [error["code"] for error in fresh.get("/v1/server/status").json()["recent_errors"]]
    assert codes == ["image_parse_error", "unknown_url"]


def test_the_pages_own_questions_are_not_listed(fresh: Front) -> None:
    fresh.post(chat("hello"), path="/v1/chat/completions/input_tokens")
    fresh.post(chat("hello", PICTURE), path="/v1/pictures/preview")
    assert fresh.get("/v1/server/requests").json()["data"] == []


@pytest.mark.parametrize("path", ["/v1/server/status", "/v1/server/requests"])
def test_both_are_behind_the_key(inspected: Front, path: str) -> None:
    assert inspected.get(path).status_code == 401


def test_a_report_tells_where_the_time_went(fresh: Front) -> None:
    answer = fresh.post(chat("What is this?", PICTURE, sightline={"report": True})).json()
    timings = answer["sightline"]["timings"]
    assert {"queue_s", "fetch_s", "decode_image_s", "encode_s", "prefill_s", "decode_s"} <= set(
        timings
    )
    assert all(seconds >= 0 for seconds in timings.values())
    assert timings["first_token_s"] <= timings["total_s"]


def test_only_so_many_requests_are_remembered() -> None:
    recent = RecentRequests()
    for number in range(MAX_REQUESTS + 5):
        recent.close(recent.open(RequestContext(f"req_{number}"), "POST", "/v1/x"), 200)
    listed = recent.requests(reader=None)
    assert len(listed) == MAX_REQUESTS
    assert listed[0]["id"] == f"req_{MAX_REQUESTS + 4}"


def test_a_running_request_is_listed_as_running() -> None:
    recent = RecentRequests()
    recent.open(RequestContext("req_1"), "POST", "/v1/x")
    (listed,) = recent.requests(reader=None)
    assert listed["is_running"] is True
