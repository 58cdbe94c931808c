"""`/metrics`: the page as Prometheus reads it, and that its numbers are those of the requests."""

from collections.abc import Iterator

import pytest
from front import PICTURE, Front, chat, eventually, serving
from prometheus_client.parser import text_string_to_metric_families

from sightline.backends.fake import Reply
from sightline.core.errors import InternalError

KEY = "sl-metered"


@pytest.fixture
def metered() -> Iterator[Front]:
    with serving(Front(server_options={"api_keys": (KEY,)})) as front:
        yield front


def ask(front: Front, *images: str, **fields: object) -> None:
    front.post(chat("hello", *images, **fields), authorization=f"Bearer {KEY}")


def numbers(front: Front) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, without the model's."""
    answer = front.get("/metrics", headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 200
    return {
        (
            sample.name.removeprefix("sightline:"),
            *(v for k, v in sorted(sample.labels.items()) if k != "model_name"),
        ): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_tokens_images_and_requests_are_counted(metered: Front) -> None:
    metered.enqueue(Reply(["four"]))
    ask(metered, PICTURE)
    found = numbers(metered)
    assert found["generation_tokens_total",] == 5  # and the stop token
    assert found["image_tokens_total",] == 18
    assert found["images_total",] == 1
    assert found["prompt_tokens_total",] > 18
    assert found["request_success_total", "stop"] == 1
    assert found["http_responses_total", "", "200"] == 1
    assert found["time_to_first_token_seconds_count",] == 1
    assert found["e2e_request_latency_seconds_count",] == 1


def test_usage_is_counted_per_key(metered: Front) -> None:
    metered.enqueue(Reply(["four"]))
    ask(metered, PICTURE)
    found = numbers(metered)
    assert found["key_requests_total", "key-1"] == 1
    assert found["key_generation_tokens_total", "key-1"] == 5
    assert found["key_images_total", "key-1"] == 1
    assert found["key_prompt_tokens_total", "key-1"] == found["prompt_tokens_total",]


def test_refusals_are_counted_by_their_code(metered: Front) -> None:
    ask(metered, temperature=9)
    metered.post(chat("x"))
    found = numbers(metered)
    assert found["http_responses_total", "invalid_value", "400"] == 1
    assert found["http_responses_total", "invalid_api_key", "401"] == 1
    assert ("request_success_total", "error") not in found


def test_a_failed_answer_is_an_error(metered: Front) -> None:
    metered.enqueue(Reply(["x"], error=InternalError()))
    ask(metered)
    found = numbers(metered)
    assert found["request_success_total", "error"] == 1
    assert found["http_responses_total", "internal_error", "500"] == 1


def test_an_answer_that_nobody_waited_for_is_an_abort(metered: Front) -> None:
    gate = metered.new_gate()
    metered.enqueue(Reply(["x", gate]))
    with metered.client.stream(
        "POST",
        f"{metered.url}/v1/chat/completions",
        json=chat("x", stream=True),
        headers={"authorization": f"Bearer {KEY}"},
    ) as stream:
        next(stream.iter_raw())
    assert eventually(lambda: ("request_success_total", "abort") in numbers(metered))


def test_the_books_of_the_moment_are_shown(metered: Front) -> None:
    found = numbers(metered)
    for name in ("num_requests_admitted", "num_requests_waiting", "num_requests_running"):
        assert found[name,] == 0
    assert found["engine_restarts_total",] == 0


def test_the_page_is_there_while_the_model_is_loading() -> None:
    with serving(Front(engine_options={"loading": True})) as front:
        assert front.get("/metrics").status_code == 200


def test_openmetrics_is_spoken_to_those_who_ask(metered: Front) -> None:
    headers = {"authorization": f"Bearer {KEY}", "accept": "application/openmetrics-text"}
    answer = metered.get("/metrics", headers=headers)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_the_page_is_closed_without_the_key(metered: Front) -> None:
    assert metered.get("/metrics").status_code == 401


def test_no_metric_holds_what_was_said(metered: Front) -> None:
    metered.post(chat("a-secret-question"), authorization=f"Bearer {KEY}", user_agent="agent-x")
    page = metered.get("/metrics", headers={"authorization": f"Bearer {KEY}"}).text
    for word in ("a-secret-question", "agent-x", KEY):
        assert word not in page
