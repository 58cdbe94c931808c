"""Schemas of what chat and text completions take."""

from sightline.core.limits import Limits
from sightline.server.openai.tools import EFFORTS
from sightline.server.openapi.shapes import (
    ANY,
    BOOLEAN,
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
    told,
    whole,
)

SEED = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
EFFORT = enum(*EFFORTS)
THINKING = one_of(
    BOOLEAN, thing("", {"type": nullable(enum("enabled", "disabled", "auto", "adaptive"))})
)
IGNORED = told(ANY, "Ignored, with a notice in x-sightline-warnings.")


def sampling_fields(limits: Limits) -> dict[str, Schema]:
    stop = text(1, limits.max_stop_chars)
    return {
        "temperature": nullable(told(number(0, 2), "0 is greedy.")),
        "top_p": nullable(number(0, 1, above_low=True)),
        "top_k": nullable(told(whole(-1, 2**31 - 1), "0 and -1: off.")),
        "min_p": nullable(number(0, 1)),
        "presence_penalty": nullable(number(-2, 2)),
        "frequency_penalty": nullable(number(-2, 2)),
        "repetition_penalty": nullable(number(0, 10, above_low=True)),
        "logit_bias": nullable(
            {
                "type": "object",
                "propertyNames": {"pattern": "^(0|[1-9][0-9]{0,9})$"},
                "additionalProperties": number(-100, 100),
                "maxProperties": 300,
                "description": "Token ids of this model and what is added to their scores.",
            }
        ),
        "seed": nullable(SEED),
        "stop": nullable(one_of(stop, array(stop, maxItems=limits.max_stop_strings))),
        "stream": nullable(BOOLEAN),
        "stream_options": nullable(
            told(
                thing("", {"include_usage": nullable(BOOLEAN)}),
                "Only with stream: true.",
            )
        ),
        "user": nullable(told(STRING, "Ignored.")),
        "metadata": nullable(told(OBJECT, "Ignored.")),
        "store": nullable(told(BOOLEAN, "Nothing is kept.")),
        "service_tier": IGNORED,
    }


def schemas(limits: Limits) -> dict[str, Schema]:
    shown = {
        "detail": nullable(enum("auto", "low", "high", "original")),
        "min_pixels": nullable(whole(1)),
        "max_pixels": nullable(whole(1)),
    }
    image_url = one_of(
        told({**STRING, "minLength": 1}, "An http(s) URL, a data URI, or bare base64."),
        thing("url", {"url": {**STRING, "minLength": 1}, **shown}),
    )
    text_part = thing(
        "type text", {"type": enum("text", "input_text", "output_text"), "text": STRING}
    )
    refusal_part = thing("type refusal", {"type": const("refusal"), "refusal": STRING})
    image_part = thing(
        "type image_url",
        {
            "type": enum("image_url", "input_image"),
            "image_url": image_url,
            **shown,
        },
    )
    parts = array(one_of(ref("TextPart"), ref("ImagePart")), maxItems=limits.max_parts)
    content = one_of(STRING, parts)
    words = one_of(STRING, array(ref("TextPart"), maxItems=limits.max_parts))
    own_parts = array(one_of(ref("TextPart"), ref("RefusalPart")), maxItems=limits.max_parts)
    said = one_of(STRING, own_parts)
    call = thing(
        "function",
        {
            "id": nullable(STRING),
            "type": nullable(told(STRING, "function")),
            "function": ref("CalledFunction"),
        },
    )
    name = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
    function = thing(
        "name",
        {
            "name": name,
            "description": nullable(STRING),
            "parameters": nullable(told(OBJECT, "A JSON schema.")),
            "strict": nullable(BOOLEAN),
        },
    )
    named = thing(
        "type function", {"type": const("function"), "function": thing("name", {"name": STRING})}
    )
    messages = array(ref("Message"), minItems=1, maxItems=limits.max_messages)
    chat_fields = {
        "model": told(STRING, "The served name, or an alias."),
        "messages": messages,
        "max_tokens": nullable(whole(1)),
        "max_completion_tokens": nullable(whole(1)),
        **sampling_fields(limits),
        "logprobs": nullable(BOOLEAN),
        "top_logprobs": nullable(told(whole(0, 20), "Needs logprobs: true.")),
        "n": nullable(whole(1, limits.max_choices)),
        "response_format": nullable(ref("ResponseFormat")),
        "tools": nullable(array(ref("Tool"), maxItems=128)),
        "tool_choice": nullable(
            one_of(
                enum("none", "auto", "required"),
                named,
                thing(
                    "type allowed_tools",
                    {
                        "type": const("allowed_tools"),
                        "allowed_tools": thing(
                            "tools", {"mode": enum("auto", "required"), "tools": array(named)}
                        ),
                    },
                ),
            )
        ),
        "parallel_tool_calls": nullable(BOOLEAN),
        "mm_processor_kwargs": nullable(
            thing(
                "",
                {"min_pixels": nullable(whole(1)), "max_pixels": nullable(whole(1))},
                additionalProperties=False,
            )
        ),
        "functions": nullable(told(array(ref("Function"), maxItems=128), "The legacy form.")),
        "function_call": nullable(one_of(enum("none", "auto"), thing("name", {"name": STRING}))),
        "reasoning_effort": nullable(EFFORT),
        "enable_thinking": nullable(BOOLEAN),
        "thinking": nullable(THINKING),
        "chat_template_kwargs": nullable(
            {
                "type": "object",
                "properties": {
                    "enable_thinking": nullable(THINKING),
                    "thinking": nullable(THINKING),
                },
                "additionalProperties": False,
            }
        ),
        "sightline": nullable(
            thing(
                "",
                {
                    "report": nullable(BOOLEAN),
                    "stream_tool_arguments": nullable(BOOLEAN),
                },
            )
        ),
    }
    settings = {name: schema for name, schema in sampling_fields(limits).items() if name != "seed"}
    prompt = one_of(
        STRING,
        array(STRING, minItems=1, maxItems=limits.max_prompts),
        told(array(whole(0), minItems=1), "Token ids."),
        array(array(whole(0), minItems=1), minItems=1, maxItems=limits.max_prompts),
    )
    return {
        "TextPart": text_part,
        "RefusalPart": refusal_part,
        "ImagePart": image_part,
        "CalledFunction": thing(
            "name", {"name": STRING, "arguments": nullable(one_of(STRING, OBJECT))}
        ),
        "ToolCall": call,
        "Function": function,
        "Tool": one_of(
            thing("function", {"type": const("function"), "function": ref("Function")}),
            told(
                thing("type", {"type": {"type": "string", "not": const("function")}}),
                "Left out, with a notice in x-sightline-warnings.",
            ),
        ),
        "Message": one_of(
            thing("role content", {"role": enum("system", "developer"), "content": words}),
            thing("role content", {"role": const("user"), "content": content}),
            thing(
                "role",
                {
                    "role": const("assistant"),
                    "content": nullable(said),
                    "reasoning_content": nullable(STRING),
                    "tool_calls": nullable(array(ref("ToolCall"))),
                },
            ),
            thing(
                "role",
                {
                    "role": enum("tool", "function"),
                    "content": nullable(words),
                    "tool_call_id": nullable(STRING),
                },
            ),
        ),
        "ResponseFormat": one_of(
            thing("type", {"type": enum("text", "json_object")}),
            thing(
                "type json_schema",
                {
                    "type": const("json_schema"),
                    "json_schema": told(
                        thing(
                            "",
                            {
                                "name": nullable(STRING),
                                "strict": nullable(BOOLEAN),
                                "schema": one_of(OBJECT, BOOLEAN),
                            },
                            minProperties=1,
                        ),
                        "A schema with its wrapper, or bare.",
                    ),
                },
            ),
        ),
        "ChatRequest": thing("model messages", chat_fields),
        "CompletionRequest": thing(
            "model prompt",
            {
                "model": STRING,
                "prompt": prompt,
                "max_tokens": nullable(told(whole(1), "16 unless it is given.")),
                **settings,
                "seed": nullable(SEED),
                "n": nullable(whole(1, limits.max_choices)),
                "logprobs": nullable(whole(0, 20)),
                "response_format": nullable(ref("ResponseFormat")),
                "echo": nullable(told(const(False), "Refused when true.")),
                "suffix": nullable(told(const(""), "Refused unless it is empty.")),
            },
        ),
    }
