"""Schemas of what chat and text completions give, whole and streamed."""

from sightline.server.openapi.shapes import (
    BOOLEAN,
    COUNT,
    LOGPROB,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    Schema,
    array,
    const,
    enum,
    nullable,
    ref,
    thing,
    whole,
)


def schemas() -> dict[str, Schema]:
    likelihood = {
        "token": STRING,
        "logprob": LOGPROB,
        "bytes": nullable(array(whole(0, 255))),
    }
    reason = enum("stop", "length", "tool_calls", "function_call")
    head = {
        "id": STRING,
        "created": COUNT,
        "model": STRING,
        "system_fingerprint": STRING,
    }
    logprobs = nullable(ref("Logprobs"))
    legacy_call = thing("name arguments", {"name": STRING, "arguments": STRING})
    delta_call = thing(
        "index function",
        {
            "index": COUNT,
            "id": STRING,
            "type": const("function"),
            "function": thing("arguments", {"name": STRING, "arguments": STRING}),
        },
    )
    return {
        "Usage": thing(
            "prompt_tokens completion_tokens total_tokens",
            {
                "prompt_tokens": COUNT,
                "completion_tokens": COUNT,
                "total_tokens": COUNT,
                "prompt_tokens_details": thing(
                    "cached_tokens text_tokens image_tokens",
                    {
                        "cached_tokens": COUNT,
                        "text_tokens": COUNT,
                        "image_tokens": COUNT,
                        "audio_tokens": COUNT,
                        "cache_write_tokens": COUNT,
                    },
                ),
                "completion_tokens_details": thing(
                    "reasoning_tokens", {"reasoning_tokens": COUNT, "text_tokens": COUNT}
                ),
            },
        ),
        "Likelihood": thing(
            "token logprob bytes top_logprobs",
            {**likelihood, "top_logprobs": array(thing("token logprob bytes", likelihood))},
        ),
        "Logprobs": thing(
            "content", {"content": nullable(array(ref("Likelihood"))), "refusal": NULL}
        ),
        "ImageReport": thing(
            "param original_width original_height width height scale tokens",
            {
                "param": STRING,
                "original_width": COUNT,
                "original_height": COUNT,
                "width": COUNT,
                "height": COUNT,
                "scale": array(NUMBER, minItems=2, maxItems=2),
                "tokens": COUNT,
                "cached": BOOLEAN,
            },
        ),
        "Report": thing(
            "images warnings",
            {
                "images": array(ref("ImageReport")),
                "timings": OBJECT,
                "warnings": array(
                    thing(
                        "field reason severity",
                        {"field": STRING, "reason": STRING, "severity": enum("info", "warn")},
                    )
                ),
            },
        ),
        "ChatCompletion": thing(
            "id object created model choices usage",
            {
                **head,
                "object": const("chat.completion"),
                "choices": array(
                    thing(
                        "index message logprobs finish_reason",
                        {
                            "index": COUNT,
                            "message": thing(
                                "role content refusal",
                                {
                                    "role": const("assistant"),
                                    "content": nullable(STRING),
                                    "refusal": NULL,
                                    "reasoning_content": STRING,
                                    "reasoning": STRING,
                                    "tool_calls": array(ref("ToolCall"), minItems=1),
                                    "function_call": legacy_call,
                                },
                            ),
                            "logprobs": logprobs,
                            "finish_reason": reason,
                        },
                    )
                ),
                "usage": ref("Usage"),
                "sightline": ref("Report"),
            },
        ),
        "ChatCompletionChunk": thing(
            "id object created model choices",
            {
                **head,
                "object": const("chat.completion.chunk"),
                "choices": array(
                    thing(
                        "index delta finish_reason",
                        {
                            "index": COUNT,
                            "delta": thing(
                                "",
                                {
                                    "role": const("assistant"),
                                    "content": STRING,
                                    "reasoning_content": STRING,
                                    "reasoning": STRING,
                                    "tool_calls": array(delta_call),
                                    "function_call": OBJECT,
                                },
                            ),
                            "logprobs": logprobs,
                            "finish_reason": nullable(reason),
                        },
                    )
                ),
                "usage": nullable(ref("Usage")),
                "sightline": ref("Report"),
            },
        ),
        "TextCompletion": thing(
            "id object created model choices",
            {
                **head,
                "object": const("text_completion"),
                "choices": array(
                    thing(
                        "text index logprobs finish_reason",
                        {
                            "text": STRING,
                            "index": COUNT,
                            "logprobs": nullable(
                                thing(
                                    "tokens token_logprobs top_logprobs text_offset",
                                    {
                                        "tokens": array(STRING),
                                        "token_logprobs": array(LOGPROB),
                                        "top_logprobs": array(OBJECT),
                                        "text_offset": array(COUNT),
                                    },
                                )
                            ),
                            "finish_reason": nullable(enum("stop", "length")),
                        },
                    )
                ),
                "usage": nullable(ref("Usage")),
            },
        ),
    }
