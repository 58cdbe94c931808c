"""Every field of every endpoint, with every value that has ever surprised a parser."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.abuse.rows import PICTURE, Builder, Row

VALUES: tuple[Any, ...] = (
    -1, 0, 1.5, 2**31, 2**63, 2**64, 1e308, "1", "", True, None, [], {}, [[]], [None], {"": {}},
    "\u0000", "x" * 2000, [1, "a", {}],
)  # fmt: skip

CHAT_FIELDS = (
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k",
    "min_p", "n", "stop", "seed", "stream", "stream_options", "logprobs", "top_logprobs",
    "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "response_format",
    "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call", "user", "metadata",
    "store", "service_tier", "reasoning_effort", "chat_template_kwargs", "mm_processor_kwargs",
    "enable_thinking", "thinking", "modalities", "sightline",
)  # fmt: skip


def endpoints(make: Builder) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """A good body of each endpoint, and its fields."""
    model, say = make.target.model, [{"role": "user", "content": "hello"}]
    text = {"type": "input_text", "text": "hello"}
    return {
        "/v1/chat/completions": (make.chat(), CHAT_FIELDS),
        "/v1/chat/completions/input_tokens": (make.chat(), ("model", "messages", "tools")),
        "/v1/completions": (
            {"model": model, "prompt": "hello", "max_tokens": 8},
            ("model", "prompt", "max_tokens", "temperature", "n", "stop", "seed", "stream", "echo",
             "suffix", "logprobs", "best_of", "logit_bias", "stream_options"),
        ),
        "/v1/responses": (
            {"model": model, "input": [{"role": "user", "content": [text]}],
             "max_output_tokens": 16},
            ("model", "input", "max_output_tokens", "temperature", "top_p", "stream", "tools",
             "tool_choice", "text", "instructions", "previous_response_id", "background", "include",
             "store", "metadata", "reasoning", "truncation"),
        ),
        "/v1/messages": (
            {"model": model, "messages": say, "max_tokens": 8},
            ("model", "messages", "max_tokens", "system", "temperature", "top_p", "top_k", "stream",
             "stop_sequences", "tools", "tool_choice", "metadata", "thinking"),
        ),
        "/v1/messages/count_tokens": (
            {"model": model, "messages": say}, ("model", "messages", "system", "tools"),
        ),
        "/tokenize": (
            {"model": model, "prompt": "hello"}, ("model", "prompt", "messages",
                                                  "add_special_tokens", "return_token_strs"),
        ),
        "/detokenize": ({"model": model, "tokens": [1, 2]}, ("model", "tokens")),
        "/api/chat": (
            {"model": model, "messages": say, "stream": False},
            ("model", "messages", "stream", "options", "format", "tools", "images", "keep_alive"),
        ),
        "/api/generate": (
            {"model": model, "prompt": "hello", "stream": False},
            ("model", "prompt", "images", "system", "stream", "options", "format", "raw"),
        ),
        "/api/show": ({"model": model}, ("model", "name", "verbose")),
    }  # fmt: skip


def fields(make: Builder) -> Iterator[Row]:
    """Each field of each endpoint with each value, every second time as a stream."""
    number = 0
    for path, (good, names) in endpoints(make).items():
        at = replace(make, path=path)
        for name in names:
            for value in VALUES:
                number += 1
                body = {**good, name: value}
                if number % 2 and name != "stream" and "stream" in names:
                    body["stream"] = True
                yield at.json(f"{path} {name}={json.dumps(value)[:24]}", body)
        for name in names:
            yield at.json(f"{path} without {name}", {k: v for k, v in good.items() if k != name})


def nested(make: Builder) -> Iterator[Row]:
    """Every place inside messages, parts and tools with every value."""
    picture = {"type": "image_url", "image_url": {"url": PICTURE, "detail": "auto"}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    good = make.chat([picture, {"type": "text", "text": "x"}], tools=[tool])
    good["messages"] += [
        {"role": "assistant", "content": "x", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
        {"role": "user", "content": "x", "name": "y"},
    ]
    for place in _places(good):
        for value in VALUES:
            body = json.loads(json.dumps(good))
            _put(body, place, value)
            shown = ".".join(map(str, place))
            yield make.json(f"{shown}={json.dumps(value)[:24]}", body)


def mutants(make: Builder, count: int) -> Iterator[Row]:
    """Good bodies with a few bytes changed, the same ones every time."""
    goods = [(path, json.dumps(body).encode()) for path, (body, _) in endpoints(make).items()]
    for number in range(count):
        chance = random.Random(number)
        path, good = goods[number % len(goods)]
        data = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randint(1, 8)]
                case _:
                    data[at:at] = chance.choice((b'"', b"{", b"[", b"\\u", b"\xff", b"0", b","))
            if not data:
                break
        yield replace(make, path=path).body(f"mutant {number} {path}", bytes(data))


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        here = (*place, key)
        if place:
            yield here
        if isinstance(inner, dict | list):
            yield from _places(inner, here)


def _put(body: Any, place: tuple[Any, ...], value: Any) -> None:
    for key in place[:-1]:
        body = body[key]
    body[place[-1]] = value
