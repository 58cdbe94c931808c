"""Schemas of Anthropic's Messages API."""

from sightline.core.limits import Limits
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
    text,
    thing,
    whole,
)


def schemas(limits: Limits) -> dict[str, Schema]:
    words = thing("type text", {"type": const("text"), "text": STRING})
    media_type = {"type": "string", "pattern": "^[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64}$"}
    picture = thing(
        "type source",
        {
            "type": const("image"),
            "source": one_of(
                thing(
                    "type media_type data",
                    {"type": const("base64"), "media_type": media_type, "data": STRING},
                ),
                thing("type url", {"type": const("url"), "url": STRING}),
            ),
        },
    )
    use = thing(
        "type id name input",
        {"type": const("tool_use"), "id": STRING, "name": STRING, "input": OBJECT},
    )
    result = thing(
        "type tool_use_id",
        {
            "type": const("tool_result"),
            "tool_use_id": STRING,
            "content": nullable(one_of(STRING, array(words))),
            "is_error": nullable(BOOLEAN),
        },
    )
    thought = thing("type thinking", {"type": const("thinking"), "thinking": STRING})
    message = one_of(
        thing(
            "role content",
            {
                "role": const("user"),
                "content": one_of(STRING, array(one_of(words, picture, result))),
            },
        ),
        thing(
            "role content",
            {
                "role": const("assistant"),
                "content": one_of(STRING, array(one_of(words, use, thought))),
            },
        ),
    )
    tool = thing(
        "name input_schema",
        {
            "type": nullable(const("custom")),
            "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "description": nullable(STRING),
            "input_schema": nullable(OBJECT),
        },
    )
    tool = one_of(tool, thing("type", {"type": {"type": "string", "not": const("custom")}}))
    stop = text(1, limits.max_stop_chars)
    fields = {
        "model": STRING,
        "messages": array(ref("AnthropicMessage"), minItems=1, maxItems=limits.max_messages),
        "system": nullable(one_of(STRING, array(words))),
        "temperature": nullable(number(0, 2)),
        "top_p": nullable(number(0, 1, above_low=True)),
        "top_k": nullable(whole(-1, 2**31 - 1)),
        "stop_sequences": nullable(array(stop, maxItems=limits.max_stop_strings)),
        "stream": nullable(BOOLEAN),
        "tools": nullable(array(tool, maxItems=128)),
        "tool_choice": nullable(
            one_of(
                thing("type", {"type": enum("auto", "any", "none")}),
                thing("type name", {"type": const("tool"), "name": STRING}),
            )
        ),
        "thinking": nullable(thing("type", {"type": enum("enabled", "adaptive", "disabled")})),
        "metadata": nullable(OBJECT),
    }
    usage = thing(
        "input_tokens output_tokens cache_creation_input_tokens cache_read_input_tokens",
        {
            "input_tokens": COUNT,
            "output_tokens": COUNT,
            "cache_creation_input_tokens": COUNT,
            "cache_read_input_tokens": COUNT,
        },
    )
    return {
        "AnthropicMessage": message,
        "AnthropicRequest": thing("model messages max_tokens", {**fields, "max_tokens": whole(1)}),
        "AnthropicCountRequest": thing("model messages", fields),
        "AnthropicAnswer": thing(
            "id type role model content stop_reason stop_sequence usage",
            {
                "id": STRING,
                "type": const("message"),
                "role": const("assistant"),
                "model": STRING,
                "content": array(one_of(words, use, thought)),
                "stop_reason": enum("end_turn", "max_tokens", "stop_sequence", "tool_use"),
                "stop_sequence": nullable(STRING),
                "usage": usage,
            },
        ),
        "AnthropicTokenCount": thing("input_tokens", {"input_tokens": COUNT}),
        "AnthropicEvent": thing("type", {"type": STRING}),
        "AnthropicError": thing(
            "type error request_id",
            {
                "type": const("error"),
                "error": thing("type message", {"type": STRING, "message": STRING}),
                "request_id": STRING,
            },
        ),
    }
