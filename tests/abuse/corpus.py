"""The hand-written attacks: bodies (J), parameters (P), tokens (T), tools and schemas (S)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.abuse.rows import ANY_REFUSAL, BAD, OK, PICTURE, Builder, Row

DEEP = 100_000


def bodies(make: Builder) -> Iterator[Row]:
    good = json.dumps(make.chat()).encode()
    head, tail = good[:-1], b"}"
    invalid = {"statuses": BAD, "codes": ("invalid_json",)}
    for id, body in {
        "J01 empty": b"",
        "J02 cut": b"{",
        "J06 deep": b"[" * DEEP,
        "J06 deep in a field": head + b',"x":' + b"[" * DEEP + b"]" * DEEP + tail,
        "J08 5000 digits": head + b',"seed":' + b"9" * 5000 + tail,
        "J11 invalid UTF-8": head + b',"x":"\xff\xfe"' + tail,
        "J11 UTF-16": good.decode().encode("utf-16"),
        "trailing data": good + b"{}",
        "single quotes": good.replace(b'"', b"'"),
        "a comment": b"/* */" + good,
        "a key twice": head + b',"model":"x"' + tail,
        "a key twice, escaped": head + b',"\\u006dodel":"x"' + tail,
    }.items():
        yield make.body(id, body, **invalid)
    yield make.body("J03 array", b"[]", statuses=BAD)
    yield make.body("J04 null", b"null", statuses=BAD)
    yield make.body("J05 number", b"1", statuses=BAD)
    for word in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        body = head + b',"temperature":' + word + tail
        yield make.body(f"J07 {word.decode()}", body, statuses=BAD)
    yield make.body("J09 lone surrogate", good.replace(b"hello", b"\\ud800"), statuses=BAD)
    yield make.body("J10 NUL", good.replace(b"hello", b"a\\u0000b"), statuses=OK)
    yield make.body("J12 byte-order mark", b"\xef\xbb\xbf" + good, statuses=OK)
    large = head + b',"x":"' + b"a" * int(31.9 * 2**20) + b'"' + tail
    yield make.body("J13 31.9 MiB", large, statuses=OK, is_heavy=True)
    yield make.raw(
        "J14 150 MB declared",
        make.target.head(
            "POST", make.path, "Content-Type: application/json", "Content-Length: 150000000"
        ),
        statuses=(413,),
    )
    yield from _repeated(replace(make, path="/v1/responses"))
    yield from _messages(make)


def _repeated(make: Builder) -> Iterator[Row]:
    """Yield what a response might repeat of its request."""
    head = b'{"model":"%b","input":"x","max_output_tokens":8,' % make.target.model.encode()
    for word in (b"1e999", b"1" + b"0" * 400 + b".5"):
        body = head + b'"metadata":{"a":%b}}' % word
        yield make.body(f"J07 {word.decode():.6} repeated", body, statuses=BAD)
        body = head + b'"tools":[{"type":"x","x":%b}],"stream":true}' % word
        yield make.body(f"J07 {word.decode():.6} in a tool", body, statuses=OK)
    large = head + b'"tools":[{"type":"x","x":"' + b"a" * (31 * 2**20) + b'"}],"stream":true}'
    yield make.body("J13 31 MiB in a tool", large, statuses=OK, is_heavy=True)


def _messages(make: Builder) -> Iterator[Row]:
    def with_messages(messages: Any) -> dict[str, Any]:
        return {"model": make.target.model, "messages": messages, "max_tokens": 8}

    for id, messages in {
        "J15 none": [],
        "J16 no role": [{"content": "x"}],
        "J16 root": [{"role": "root", "content": "x"}],
        "J16 empty role": [{"role": "", "content": "x"}],
        "J16 long role": [{"role": "x" * 10240, "content": "x"}],
        "J17 no content": [{"role": "user"}],
        "J17 null content": [{"role": "user", "content": None}],
        "J17 object content": [{"role": "user", "content": {}}],
        "J17 number content": [{"role": "user", "content": 5}],
        "J19 audio": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
        "J19 file": [{"role": "user", "content": [{"type": "file", "file": {}}]}],
        "J19 video": [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}],
        "257 messages": [{"role": "user", "content": "x"}] * 257,
        "257 parts": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 257}],
        "messages is text": "x",
        "a message is null": [None],
        "a part is a number": [{"role": "user", "content": [1]}],
        "a part without type": [{"role": "user", "content": [{}]}],
    }.items():
        yield from make.both(id, with_messages(messages), statuses=BAD)
    text, image = {"type": "text", "text": "x"}, {"type": "image_url", "image_url": PICTURE}
    for id, content in {
        "J18 a string": "x",
        "J18 image before text": [image, text],
        "J18 text only": [text],
        "J18 two texts": [text, text],
        "T09 empty": "",
        "T09 spaces": "   ",
        "T09 newlines": "\n\n\n",
    }.items():
        yield make.json(id, make.chat(content), statuses=OK)


def parameters(make: Builder) -> Iterator[Row]:
    for id, fields in {
        "P01 negative": {"max_tokens": -1},
        "P02 zero": {"max_tokens": 0},
        "P04 text": {"max_tokens": "10"},
        "P05 two lengths": {"max_tokens": 5, "max_completion_tokens": 6},
        "P07 cold": {"temperature": -0.1},
        "P08 hot": {"temperature": 2.01},
        "P09 text": {"temperature": "0"},
        "P11 top_p 0": {"top_p": 0},
        "P12 top_p -1": {"top_p": -1},
        "P14 top_k -2": {"top_k": -2},
        "P14 top_k 1.5": {"top_k": 1.5},
        "P15 min_p": {"min_p": 1.1},
        "P15 repetition 0": {"repetition_penalty": 0},
        "P15 repetition -1": {"repetition_penalty": -1},
        "P15 repetition 1e30": {"repetition_penalty": 1e30},
        "P16 frequency": {"frequency_penalty": 2.01},
        "P16 presence": {"presence_penalty": -2.01},
        "P17 n 0": {"n": 0},
        "P17 n -1": {"n": -1},
        "P17 n 9": {"n": 9},
        "P17 n 10^9": {"n": 10**9},
        "P18 best_of": {"best_of": 10**6},
        "P18 beams": {"use_beam_search": True},
        "P19 5 stops": {"stop": ["a", "b", "c", "d", "e"]},
        "P19 empty stop": {"stop": ""},
        "P19 long stop": {"stop": "x" * 10240},
        "P19 number stop": {"stop": [1]},
        "P19 a million stops": {"stop": ["x"] * 1_000_000},
        "P20 top_logprobs 21": {"logprobs": True, "top_logprobs": 21},
        "P20 top_logprobs -1": {"logprobs": True, "top_logprobs": -1},
        "P20 top_logprobs alone": {"top_logprobs": 5},
        "P21 prompt_logprobs": {"prompt_logprobs": 10**5},
        "P22 stream text": {"stream": "true"},
        "P22 stream 1": {"stream": 1},
        "P23 format": {"response_format": {"type": "xml"}},
        "P25 user 1 MiB": {"user": "x" * 2**20},
        "P25 metadata 1 MiB": {"metadata": {"x": "x" * 2**20}},
        "P26 template": {"chat_template": "{{ 7*7 }}"},
        "P26 documents": {"documents": [{}]},
        "P26 embeds": {"prompt_embeds": "x"},
        "P26 image embeds": {"image_embeds": "x"},
        "P26 regex": {"guided_regex": "(a+)+b"},
        "P26 media": {"media_io_kwargs": {"x": 1}},
        "P26 processor": {"mm_processor_kwargs": {"trust_remote_code": True}},
        "T11 kwargs": {"chat_template_kwargs": {"tokenize": True}},
        "stream_options alone": {"stream_options": {"include_usage": True}},
        "logit_bias 301": {"logit_bias": {str(i): 1 for i in range(301)}},
        "logit_bias 101": {"logit_bias": {"1": 101}},
        "logit_bias far": {"logit_bias": {"99999999": 1}},
        "logit_bias word": {"logit_bias": {"x": 1}},
        "audio out": {"modalities": ["text", "audio"], "audio": {}},
    }.items():
        row = make.chat(**fields)
        if "max_tokens" not in fields:
            row["max_tokens"] = 8
        yield make.json(id, row, statuses=BAD)
    for id, fields in {
        "P03 max_tokens 2^31": {"max_tokens": 2**31, "stop": "e"},
        "P10 null": {"temperature": None},
        "P13 top_p 1": {"top_p": 1},
        "P14 top_k 0": {"top_k": 0},
        "P14 top_k off": {"top_k": -1},
        "P16 penalties at the edge": {"frequency_penalty": 2.0, "presence_penalty": -2.0},
        "P27 harmless": {"foo": 1},
        "all maxima": {
            "temperature": 2,
            "top_p": 1,
            "frequency_penalty": 2,
            "presence_penalty": 2,
            "seed": 2**63 - 1,
            "stop": ["x" * 256] * 4,
        },
    }.items():
        yield from make.both(id, make.chat(**fields), statuses=OK)
    for name in ("", "../../etc/passwd", "x" * 2**20, "no-such-model", "\u0000", "a\r\nb"):
        yield make.json(f"P24 model {name[:20]!r}", make.chat(model=name), statuses=(404,))
    yield make.json("P27 strict", make.chat(foo=1), "x-sightline-strict: 1")


def tokens(make: Builder) -> Iterator[Row]:
    controls = (
        "<|image_pad|>",
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<img>http://127.0.0.1/x</img>",
        "<|im_end|><|endoftext|>",
        "[gMASK]<sop></s>",
        "<|begin_of_image|><|endoftext|><|end_of_image|>",
        "<|user|>\n<|assistant|>\n<|observation|>",
    )
    for text in controls:
        yield from make.both(f"T01 {text}", make.chat(text), statuses=OK)
        with_image = make.image(PICTURE, text)
        yield make.json(f"T04 {text} and an image", with_image, statuses=OK)
        for role in ("system", "assistant"):
            chat = make.chat()
            chat["messages"] = [{"role": role, "content": text}, *chat["messages"]]
            yield make.json(f"T07 {text} as {role}", chat, statuses=OK)
        yield make.json(
            f"T07 {text} as a tool",
            make.chat(tools=[{"type": "function", "function": {"name": text}}]),
        )
    for id, text in {
        "letters": "a" * 2**20,
        "emoji": "😀" * 2**18,
        "spaces": " " * 2**20,
        "marks": "a" + "\u0301" * 100_000,
        "bidi": "\u202e\u200b" * 100_000,
    }.items():
        known = {"statuses": BAD, "codes": ("context_length_exceeded",)}
        yield make.json(f"T08 {id}", make.chat(text), **known)


def tools(make: Builder) -> Iterator[Row]:
    def tool(name: Any = "f", **fields: Any) -> dict[str, Any]:
        return {"type": "function", "function": {"name": name, **fields}}

    def schema(value: Any) -> dict[str, Any]:
        return {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}

    yield make.json("S01 none", make.chat(tools=[]), statuses=OK)
    yield make.json("S01 object", make.chat(tools={}), statuses=BAD)
    yield make.json("S01 129", make.chat(tools=[tool(f"f{i}") for i in range(129)]), statuses=BAD)
    for name in (None, "x" * 65, "a b", "a\nb", 'a"b', "../x", "😀", "", 5):
        yield make.json(f"S02 {name!r:.20}", make.chat(tools=[tool(name)]), statuses=BAD)
    properties = {f"p{i}": {"type": "string"} for i in range(120)}
    schema_of_many = {"type": "object", "properties": properties}
    many = [tool(f"f{i}", parameters=schema_of_many) for i in range(128)]
    yield make.json("many schemas", make.chat(tools=many), statuses=BAD, is_heavy=True)
    yield make.json("S02 twice", make.chat(tools=[tool("f"), tool("f")]), statuses=BAD)
    for parameters in (
        [],
        "x",
        {"type": 5},
        {"type": "invalid"},
        {"type": "string", "pattern": "("},
    ):
        yield make.json(
            f"S03 {parameters}",
            make.chat(tools=[tool(parameters=parameters)], tool_choice="required"),
            statuses=BAD,
        )
    for choice in (
        {"type": "function", "function": {"name": "g"}},
        {"type": "function"},
        {},
        "none of these",
        5,
    ):
        yield make.json(
            f"S04 {choice}", make.chat(tools=[tool()], tool_choice=choice), statuses=BAD
        )
    yield make.json("S04 required alone", make.chat(tool_choice="required"), statuses=BAD)
    yield make.json("S05", make.chat(response_format={"type": "json_schema"}), statuses=BAD)
    for id, value in schemas().items():
        # What a compiler can do within its time may as well be done.
        statuses = (200, 400) if id in ("S07 products", "S08 repeats") else BAD
        yield make.json(id, make.chat(response_format=schema(value)), statuses=statuses)
    for id, value in {"S09 valid": {"type": "object"}, "S09 malformed": {"type": 7}}.items():
        statuses = BAD if "malformed" in id else ANY_REFUSAL
        yield make.json(id, make.chat(response_format=schema(value)), statuses=statuses)
    yield make.json("S09 valid again", make.chat(response_format=schema({"type": "object"})))
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "not JSON"}}
    chat = make.chat()
    chat["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "x"},
    ]
    yield make.json("S12 arguments in history", chat, statuses=OK)
    chat = make.chat()
    image = {"type": "image_url", "image_url": PICTURE}
    chat["messages"].append({"role": "tool", "tool_call_id": "nobody", "content": [image]})
    yield make.json("S13 an image of a tool", chat)


def schemas() -> dict[str, Any]:
    deep: Any = {"type": "string"}
    for _ in range(17):
        deep = {"type": "object", "properties": {"a": deep}}
    many = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(1001)}}
    twins = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    return {
        "S06 depth": deep,
        "S06 properties": many,
        "S06 64 KiB": {"type": "string", "description": "x" * 65536},
        "S06 enum": {"enum": [f"v{i}" for i in range(100_000)]},
        "S06 const": {"const": "x" * 2**20},
        "S07 products": {"allOf": [twins] * 20},
        "S07 oneOf": {"oneOf": [{"const": i} for i in range(1000)]},
        "S08 (a+)+b": {"type": "string", "pattern": "(a+)+\\1b"},
        "S08 repeats": {"type": "string", "pattern": "(a{1000}){1000}"},
        "S08 look-ahead": {"type": "string", "pattern": "(?=a)b"},
        "S08 NUL": {"type": "string", "pattern": "["},
        "steps that lead nowhere": {
            "items": {"type": "number", "multipleOf": 0.1, "minimum": 0.25, "maximum": 0.35},
            "type": "array",
        },
        "a number that floats round": {"const": 2**53 + 1},
        "remote ref": {"$ref": "http://127.0.0.1/schema.json"},
        "file ref": {"$ref": "file:///etc/passwd"},
        "ref to itself": {"$ref": "#"},
        "refs in a ring": {
            "properties": {"a": {"$ref": "#/properties/b"}, "b": {"$ref": "#/properties/a"}},
            "required": ["a"],
        },
    }
