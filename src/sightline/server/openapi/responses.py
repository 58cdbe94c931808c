"""Schemas of OpenAI's Responses API."""

from sightline.server.openapi.chat_requests import EFFORT, IGNORED
from sightline.server.openapi.shapes import (
    BOOLEAN,
    COUNT,
    OBJECT,
    STRING,
    Schema,
    array,
    const,
    enum,
    nullable,
    number,
    one_of,
    ref,
    thing,
    told,
    whole,
)


def schemas() -> dict[str, Schema]:
    words = thing("type text", {"type": enum("input_text", "output_text"), "text": STRING})
    picture = thing(
        "type image_url",
        {
            "type": const("input_image"),
            "image_url": STRING,
            "detail": nullable(enum("auto", "low", "high", "original")),
        },
    )
    refusal = thing("type refusal", {"type": const("refusal"), "refusal": STRING})
    output = one_of(STRING, array(words))
    item = one_of(
        thing(
            "role content",
            {
                "type": nullable(const("message")),
                "role": const("user"),
                "content": one_of(STRING, array(one_of(words, picture))),
            },
        ),
        thing(
            "role content",
            {
                "type": nullable(const("message")),
                "role": enum("system", "developer", "assistant"),
                "content": one_of(STRING, array(one_of(words, refusal))),
            },
        ),
        thing(
            "type call_id name arguments",
            {
                "type": const("function_call"),
                "call_id": STRING,
                "name": STRING,
                "arguments": STRING,
            },
        ),
        thing(
            "type call_id output",
            {"type": const("function_call_output"), "call_id": STRING, "output": output},
        ),
        thing(
            "type",
            {
                "type": const("reasoning"),
                "summary": nullable(array(thing("text", {"text": STRING}))),
                "content": nullable(array(thing("text", {"text": STRING}))),
            },
        ),
    )
    form = one_of(
        thing("type", {"type": enum("text", "json_object")}),
        thing(
            "type schema",
            {
                "type": const("json_schema"),
                "name": nullable(STRING),
                "schema": one_of(OBJECT, BOOLEAN),
            },
        ),
    )
    name = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
    tool = thing(
        "type name",
        {
            "type": const("function"),
            "name": name,
            "parameters": nullable(OBJECT),
            "description": nullable(STRING),
            "strict": nullable(BOOLEAN),
        },
    )
    tool = one_of(tool, thing("type", {"type": {"type": "string", "not": const("function")}}))
    return {
        "ResponseItem": item,
        "ResponseRequest": thing(
            "model input",
            {
                "model": STRING,
                "input": one_of(STRING, array(ref("ResponseItem"), minItems=1)),
                "instructions": nullable(STRING),
                "max_output_tokens": nullable(whole(1)),
                "temperature": nullable(number(0, 2)),
                "top_p": nullable(number(0, 1, above_low=True)),
                "top_logprobs": nullable(whole(0, 20)),
                "stream": nullable(BOOLEAN),
                "tools": nullable(array(tool, maxItems=128)),
                "tool_choice": nullable(
                    one_of(
                        enum("none", "auto", "required"),
                        thing("type name", {"type": const("function"), "name": STRING}),
                        thing(
                            "type tools",
                            {
                                "type": const("allowed_tools"),
                                "mode": enum("auto", "required"),
                                "tools": array(
                                    thing("type name", {"type": const("function"), "name": STRING})
                                ),
                            },
                        ),
                    )
                ),
                "parallel_tool_calls": nullable(BOOLEAN),
                "text": nullable(thing("", {"format": nullable(form)})),
                "reasoning": nullable(thing("", {"effort": nullable(EFFORT), "summary": IGNORED})),
                "include": nullable(array(STRING)),
                "truncation": nullable(enum("auto", "disabled")),
                "metadata": nullable(OBJECT),
                "store": nullable(told(BOOLEAN, "Nothing is kept.")),
                "background": nullable(told(const(False), "Refused when true.")),
            },
        ),
        "Response": thing(
            "id object created_at status error incomplete_details model output usage",
            {
                "id": STRING,
                "object": const("response"),
                "created_at": COUNT,
                "status": enum("in_progress", "completed", "incomplete", "failed"),
                "error": nullable(thing("code message", {"code": STRING, "message": STRING})),
                "incomplete_details": nullable(
                    thing("reason", {"reason": const("max_output_tokens")})
                ),
                "model": STRING,
                "output": array(
                    thing(
                        "id type status",
                        {
                            "id": STRING,
                            "type": enum("message", "function_call", "reasoning"),
                            "status": enum("in_progress", "completed", "incomplete"),
                        },
                    )
                ),
                "usage": nullable(
                    thing(
                        "input_tokens input_tokens_details output_tokens output_tokens_details "
                        "total_tokens",
                        {
                            "input_tokens": COUNT,
                            "input_tokens_details": thing(
                                "cached_tokens cache_write_tokens",
                                {"cached_tokens": COUNT, "cache_write_tokens": COUNT},
                            ),
                            "output_tokens": COUNT,
                            "output_tokens_details": thing(
                                "reasoning_tokens", {"reasoning_tokens": COUNT}
                            ),
                            "total_tokens": COUNT,
                        },
                    )
                ),
            },
        ),
        "ResponseEvent": thing("type sequence_number", {"type": STRING, "sequence_number": COUNT}),
        "ResponseTokenCount": thing(
            "object input_tokens",
            {"object": const("response.input_tokens"), "input_tokens": COUNT},
        ),
    }
