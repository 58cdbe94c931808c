"""What a person gets from the one command, with the bundled model."""

import json

import httpx2
import pytest
import requests
from served import Served, resident_mib

pytestmark = pytest.mark.live

QUESTION = "这是什么?"


def content(url: str, question: str = QUESTION) -> list[dict[str, object]]:
    return [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": url}},
    ]


def test_the_server_is_ready_within_seconds(demo: Served):
    print(f"ready after {demo.ready_s:.1f} s, {demo.starved_s:.1f} s of them without a core")
    # 5 s on two idle cores; tests share theirs, and what others take is not ours.
    assert demo.ready_s - demo.starved_s <= 15


def test_the_blog_script_gets_a_right_chinese_answer(demo: Served, picture_url: str):
    body = {
        "model": "glm-4v",
        "messages": [{"role": "user", "content": content(picture_url)}],
        "max_tokens": 1024,
        "temperature": 0.5,
    }
    response = requests.post(
        f"{demo.url}/v1/chat/completions",
        headers={"Content-Type": "application/json"},
        data=json.dumps(body),
        timeout=60,
    )
    assert response.status_code == 200, response.text
    answer = response.json()["choices"][0]["message"]["content"]
    assert "红" in answer
    assert "圆" in answer


def test_the_answer_names_the_model_that_gave_it(demo: Served):
    response = demo.post({"model": "glm-4v", "messages": [{"role": "user", "content": "你好"}]})
    assert response.json()["model"] == "sightline-demo"


def test_streamed_and_plain_answers_are_the_same(demo: Served, picture_url: str):
    # Long: what is said while the front has no core comes in one piece.
    never_stops = {"1266": -100, "1273": -100, "1275": -100}
    long = {"temperature": 0, "logit_bias": never_stops, "max_tokens": 300}
    plain = demo.ask(content(picture_url), **long)
    body = {
        "model": "glm-4v-9b",
        "messages": [{"role": "user", "content": content(picture_url)}],
        "stream": True,
        **long,
    }
    pieces = []
    with httpx2.stream("POST", f"{demo.url}/v1/chat/completions", json=body, timeout=60) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                choice = json.loads(line.removeprefix("data: "))["choices"][0]
                pieces.append(choice["delta"].get("content", ""))
    assert len(pieces) > 3
    assert "".join(pieces) == plain


def test_memory_stays_small(demo: Served, picture_url: str):
    demo.ask(content(picture_url))
    front, engine = resident_mib(demo.pid), resident_mib(demo.engine_pid())
    print(f"front {front:.0f} MiB, engine {engine:.0f} MiB")
    assert front <= 150
    assert engine <= 700


@pytest.mark.parametrize(
    "broken",
    [
        {"model": "glm-4v"},
        {"model": "glm-4v", "messages": []},
        {"model": "nobody", "messages": [{"role": "user", "content": "x"}]},
        {
            "model": "glm-4v",
            "messages": [{"role": "user", "content": content("file:///etc/hosts")}],
        },
        {"model": "glm-4v", "messages": [{"role": "user", "content": content("data:image/png,x")}]},
        {"model": "glm-4v", "messages": [{"role": "user", "content": "x"}], "temperature": 3},
        {"model": "glm-4v", "messages": [{"role": "user", "content": "x" * 100_000}]},
    ],
)
def test_bad_requests_are_refused_and_change_nothing(broken, demo: Served, picture_url: str):
    before = demo.ask(content(picture_url), temperature=0)
    response = demo.post(broken)
    assert 400 <= response.status_code < 500
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert demo.ask(content(picture_url), temperature=0) == before


def test_the_bundled_model_is_called_glm_4v_only_by_default(serve):
    with serve("sightline-demo") as served:
        response = served.post({"model": "glm-4v", "messages": [{"role": "user", "content": "x"}]})
        assert response.status_code == 404
