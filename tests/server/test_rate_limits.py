"""What a key may use in a minute: the arithmetic with a clock of our own, then over HTTP."""

import json
import socket
from dataclasses import dataclass, field

import pytest
from front import PICTURE, Front, chat, events_of, eventually, raw_post, read_answer, serving

from sightline.backends.fake import Reply
from sightline.core.errors import Overloaded
from sightline.core.limits import Limits
from sightline.server.key_file import new_key, write_keys
from sightline.server.keys import KeyRing
from sightline.server.rate_limits import Budget, Rates
from sightline.service.chat import ChatOptions

KEY, OTHER_KEY = "sl-limited", "sl-other"


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Limited:
    """A front whose keys have `rates`, and the clock of their budgets."""

    rates: Rates
    clock: Clock = field(default_factory=Clock)

    def front(self, *keys: str) -> Front:
        ring = KeyRing(keys, rates=self.rates, clock=self.clock)
        return Front(server_options={"key_ring": ring})


def headers_of(budget: Budget) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in budget.headers()}


def test_a_minutes_worth_may_come_at_once_and_then_one_at_a_time():
    clock = Clock()
    budget = Budget(Rates(requests=10), clock)
    for _ in range(10):
        budget.take_request()
    with pytest.raises(Overloaded) as refused:
        budget.take_request()
    assert (refused.value.code, refused.value.retry_after_s) == ("rate_limit_exceeded", 6)
    clock.now += 6
    budget.take_request()
    with pytest.raises(Overloaded):
        budget.take_request()


def test_unused_time_is_not_saved_beyond_one_minute():
    clock = Clock()
    budget = Budget(Rates(requests=2), clock)
    clock.now += 3600
    budget.take_request()
    budget.take_request()
    with pytest.raises(Overloaded):
        budget.take_request()


def test_a_debt_is_paid_before_the_next_request():
    clock = Clock()
    budget = Budget(Rates(tokens=600), clock)
    budget.take_request()
    budget.take("tokens", 1800)
    with pytest.raises(Overloaded) as refused:
        budget.take_request()
    assert refused.value.retry_after_s == 121  # 1200 owed and 1 to spend, at 10 a second
    clock.now += 121
    budget.take_request()


def test_a_refused_request_costs_nothing():
    clock = Clock()
    budget = Budget(Rates(requests=10, tokens=10), clock)
    budget.take("tokens", 10)
    for _ in range(20):
        with pytest.raises(Overloaded):
            budget.take_request()
    assert headers_of(budget)["x-ratelimit-remaining-requests"] == "10"


def test_the_headers_tell_limit_rest_and_time_until_full():
    clock = Clock()
    budget = Budget(Rates(requests=60, images=2), clock)
    budget.take_request()
    budget.take("images", 5)
    assert headers_of(budget) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-images": "2",
        "x-ratelimit-remaining-images": "0",
        "x-ratelimit-reset-images": "2m30s",
    }
    clock.now += 0.75
    assert headers_of(budget)["x-ratelimit-reset-requests"] == "250ms"


def test_a_rate_of_its_own_wins_over_the_servers():
    assert Rates(requests=5).filled_up(Rates(requests=9, tokens=7)) == Rates(requests=5, tokens=7)


def test_a09_the_11th_request_of_10_per_minute_is_429_and_other_keys_go_on():
    limited = Limited(Rates(requests=10))
    with serving(limited.front(KEY, OTHER_KEY)) as front:
        good = [front.post(chat("x"), authorization=f"Bearer {KEY}") for _ in range(10)]
        assert {answer.status_code for answer in good} == {200}
        assert good[-1].headers["x-ratelimit-remaining-requests"] == "0"
        refused = front.post(chat("x"), authorization=f"Bearer {KEY}")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "6"
        assert refused.headers["x-ratelimit-limit-requests"] == "10"
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert front.post(chat("x"), authorization=f"Bearer {OTHER_KEY}").status_code == 200
        assert front.get("/v1/models", headers={"authorization": f"Bearer {KEY}"}).is_success
        limited.clock.now += 6
        assert front.post(chat("x"), authorization=f"Bearer {KEY}").status_code == 200


def test_a09_a_token_budget_spent_mid_stream_lets_it_end_and_refuses_the_next():
    with serving(Limited(Rates(tokens=40)).front(KEY)) as front:
        front.enqueue(Reply(["x" * 100]))
        stream = front.post(chat("x", stream=True), authorization=f"Bearer {KEY}")
        assert events_of(stream.text)[-1] == "[DONE]"
        refused = front.post(chat("x"), authorization=f"Bearer {KEY}")
        assert refused.status_code == 429
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
        assert int(refused.headers["retry-after"]) > 60


def test_a_client_that_leaves_has_paid_for_what_was_made():
    limited = Limited(Rates(tokens=1000))
    with serving(limited.front(KEY)) as front:
        body = chat("x", stream=True, max_tokens=100)
        with front.client.stream(
            "POST",
            f"{front.url}/v1/chat/completions",
            content=json.dumps(body),
            headers={"content-type": "application/json", "authorization": f"Bearer {KEY}"},
        ) as stream:
            before = int(stream.headers["x-ratelimit-remaining-tokens"])
        assert before < 1000


def test_images_are_counted_and_questions_without_one_go_on():
    with serving(Limited(Rates(images=1)).front(KEY)) as front:
        assert front.post(chat("x", PICTURE), authorization=f"Bearer {KEY}").status_code == 200
        refused = front.post(chat("x", PICTURE), authorization=f"Bearer {KEY}")
        assert refused.status_code == 429
        assert "images per minute" in refused.json()["error"]["message"]
        assert front.post(chat("x"), authorization=f"Bearer {KEY}").status_code == 200


def test_without_keys_the_rates_bound_everybody_together():
    with serving(Limited(Rates(requests=1)).front()) as front:
        assert front.post(chat("x")).status_code == 200
        assert front.post(chat("x")).status_code == 429


def test_a_key_of_one_model_may_not_use_another(tmp_path):
    text, key = new_key("narrow", models=["other"])
    write_keys(tmp_path / "keys.json", [key])
    ring = KeyRing(file=tmp_path / "keys.json")
    with serving(Front(server_options={"key_ring": ring})) as front:
        refused = front.post(chat("x"), authorization=f"Bearer {text}")
        assert refused.status_code == 403
        assert refused.json()["error"] == {
            "message": "This key may not use model 'sightline-fake'.",
            "type": "permission_error",
            "param": None,
            "code": "key_not_allowed",
        }


def test_a_key_sees_only_the_names_that_it_may_use(tmp_path):
    names = ("sightline-fake", "glm-4v", "other")
    keys = {name: new_key(name, models=[name]) for name in names}
    write_keys(tmp_path / "keys.json", [key for _, key in keys.values()])
    ring = KeyRing(file=tmp_path / "keys.json")
    front = Front(server_options={"key_ring": ring}, chat_options=ChatOptions(aliases=("glm-4v",)))
    with serving(front):

        def seen(name: str) -> list[object]:
            headers = {"authorization": f"Bearer {keys[name][0]}"}
            listed = front.get("/v1/models", headers=headers).json()["data"]
            tags, running = (
                front.get(path, headers=headers).json()["models"]
                for path in ("/api/tags", "/api/ps")
            )
            one = front.get("/v1/models/sightline-fake", headers=headers).status_code
            show = front.request(
                "POST", "/api/show", headers=headers, json={"model": "sightline-fake"}
            ).status_code
            return [[each["id"] for each in listed], len(tags), len(running), one, show]

        assert seen("sightline-fake") == [["sightline-fake"], 1, 1, 200, 200]
        assert seen("glm-4v") == [["glm-4v"], 1, 1, 403, 403]
        assert seen("other") == [[], 0, 0, 403, 403]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"model": "sightline-fake"}),
        ("/api/generate", {"model": "sightline-fake:latest", "keep_alive": 0}),
    ],
)
def test_a_key_may_not_load_a_model_that_it_may_not_use(tmp_path, path, body):
    text, key = new_key("narrow", models=["other"])
    write_keys(tmp_path / "keys.json", [key])
    ring = KeyRing(file=tmp_path / "keys.json")
    with serving(Front(server_options={"key_ring": ring})) as front:
        answer = front.post(body, path=path, authorization=f"Bearer {text}")
        assert answer.status_code == 403
        assert answer.json() == {"error": "This key may not use model 'sightline-fake'."}


@pytest.mark.parametrize(
    ("models", "told"), [(["glm-4v"], " Available: glm-4v."), (["other"], "")], ids=str
)
def test_a_key_is_told_only_names_that_it_may_use_and_needs_none(tmp_path, models, told):
    text, key = new_key("narrow", models=models)
    write_keys(tmp_path / "keys.json", [key])
    ring = KeyRing(file=tmp_path / "keys.json")
    front = Front(server_options={"key_ring": ring}, chat_options=ChatOptions(aliases=("glm-4v",)))
    with serving(front):
        headers = {"authorization": f"Bearer {text}"}
        refused = front.post(chat("x", model="gpt"), **headers)
        assert refused.json()["error"]["message"] == f"The model 'gpt' does not exist.{told}"
        counted = front.post({"prompt": "x"}, path="/tokenize", **headers)
        assert counted.status_code == (200 if told else 403)


def test_a_key_with_many_requests_waiting_does_not_hold_up_another() -> None:
    keys = ("sl-many", "sl-other")
    limits = Limits(max_running=1, max_waiting=20)
    with serving(Front(limits=limits, server_options={"api_keys": keys})) as front:
        gate = front.new_gate()
        front.enqueue(Reply([gate, "x"]))

        def ask(key: str, text: str) -> socket.socket:
            connection = front.connect()
            body = json.dumps(chat(text)).encode()
            connection.sendall(raw_post(body, f"Authorization: Bearer {key}"))
            return connection

        def waiting(number: int) -> bool:
            return eventually(lambda: front.service.admission.num_waiting == number)

        open_ones = [ask("sl-many", "running")]
        assert eventually(lambda: front.service.admission.num_running == 1)
        for number in range(1, 11):
            open_ones.append(ask("sl-many", "many"))
            assert waiting(number)
        open_ones.append(ask("sl-other", "other"))
        assert waiting(11)
        front.on_loop(gate.set)
        assert all(read_answer(connection).status == 200 for connection in open_ones)
        for connection in open_ones:
            connection.close()
        asked = [
            bytes(t for t in request.prompt.token_ids if t < 256)
            for request in front.engine.requests
        ]
    assert [b"other" in prompt for prompt in asked].index(True) <= 2
