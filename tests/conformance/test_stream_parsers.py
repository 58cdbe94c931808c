"""How other clients take a stream apart, replayed on ours.

Each parser below does what the client is known to do; none of them is its code.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from front import Front, chat, serving

from sightline.backends.fake import Reply
from sightline.core.errors import InternalError

# Separators that `str.splitlines` knows and JSON does not, and a character of four bytes.
TEXT = "第一行\n第二行\u2028三\u2029四\x85五\x0b六\x1c七 😀 data: [DONE] \n\n end"


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with serving(Front()) as front:
        yield front


def open_stream(front: Front, **fields: Any) -> requests.Response:
    body = chat(TEXT, stream=True, **fields)
    answer = requests.post(
        f"{front.url}/v1/chat/completions", json=body, stream=True, timeout=(10, 300)
    )
    assert answer.status_code == 200
    return answer


def dify(answer: requests.Response) -> tuple[str, str | None, dict[str, Any] | None]:
    """Dify's plugin: split at blank lines, ignore comments, read the first choice only."""
    answer.encoding = "utf-8"
    text, finish_reason, usage = "", None, None
    for block in answer.iter_lines(decode_unicode=True, delimiter="\n\n"):
        block = block.strip()
        if not block or block.startswith(":"):
            continue
        payload = block.strip().removeprefix("data:").lstrip()
        if payload == "[DONE]":
            continue
        chunk = json.loads(payload)
        if chunk.get("error") and "choices" not in chunk:
            raise ValueError(chunk["error"])
        usage = chunk.get("usage") or usage
        if not chunk["choices"]:
            continue
        choice = chunk["choices"][0]
        finish_reason = choice["finish_reason"]
        text += choice["delta"].get("content") or ""
    return text, finish_reason, usage


def test_dify_reads_text_finish_reason_and_usage(front: Front) -> None:
    answer = open_stream(
        front, stream_options={"include_usage": True}, user="dify", presence_penalty=0
    )
    text, finish_reason, usage = dify(answer)
    assert text == TEXT
    assert finish_reason == "stop"
    assert usage is not None
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] > 0


def test_dify_shows_an_error_in_the_stream(front: Front) -> None:
    front.enqueue(Reply(["Half"], error=InternalError()))
    with pytest.raises(ValueError, match="internal_error"):
        dify(open_stream(front))


def test_difys_credential_check_passes(front: Front) -> None:
    body = {
        "model": "sightline-fake",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "ping"}],
    }
    for path in ("/v1/chat/completions", "/chat/completions"):
        answer = requests.post(front.url + path, json=body, timeout=(10, 300))
        assert answer.status_code == 200
        assert answer.json()["object"] == "chat.completion"
        assert answer.json()["choices"][0]["message"]["content"] == "ping"


def test_the_blog_script_works_unchanged(front: Front) -> None:
    body = {
        "model": "sightline-fake",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "这是什么?"},
                    {"type": "image_url", "image_url": {"url": "http://example.org/cat.png"}},
                ],
            }
        ],
        "max_tokens": 1024,
        "temperature": 0.5,
    }
    answer = requests.post(f"{front.url}/v1/chat/completions", json=body, timeout=(10, 300))
    assert answer.json()["choices"][0]["message"]["content"].endswith("这是什么?")


def test_line_readers_find_whole_json_on_every_line(front: Front) -> None:
    """Open WebUI reads by `str.splitlines`."""
    answer = open_stream(front)
    text = ""
    for line in answer.content.decode().splitlines():
        if line.startswith("data: ") and line != "data: [DONE]":
            text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    assert text == TEXT


def test_validating_clients_find_every_field(front: Front) -> None:
    """The AI SDK and LangChain check every chunk."""
    for block in open_stream(front).text.split("\n\n")[:-2]:
        chunk = json.loads(block.removeprefix("data: "))
        assert isinstance(chunk["choices"], list)
        for choice in chunk["choices"]:
            assert choice["delta"].get("role") in (None, "assistant")
            assert isinstance(choice["index"], int)
