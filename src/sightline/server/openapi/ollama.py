"""Schemas of Ollama's API."""

from sightline.core.limits import Limits
from sightline.server.openapi.chat_requests import EFFORT
from sightline.server.openapi.shapes import (
    ANY,
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
    told,
    whole,
)


def schemas(limits: Limits) -> dict[str, Schema]:
    stop = text(1, limits.max_stop_chars)
    options = thing(
        "",
        {
            "temperature": nullable(number(0, 2)),
            "top_p": nullable(number(0, 1)),
            "top_k": nullable(whole(-1, 2**31 - 1)),
            "min_p": nullable(number(0, 1)),
            "seed": nullable({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}),
            "num_predict": nullable({"type": "integer"}),
            "stop": nullable(one_of(stop, array(stop, maxItems=limits.max_stop_strings))),
            "repeat_penalty": nullable(number(0, 10, above_low=True)),
            "presence_penalty": nullable(number(-2, 2)),
            "frequency_penalty": nullable(number(-2, 2)),
        },
    )
    images = nullable(told(array(STRING), "Base64."))
    settings = {
        "model": STRING,
        "stream": nullable(told(BOOLEAN, "True unless it is false.")),
        "format": nullable(one_of(enum("", "json"), OBJECT)),
        "options": nullable(options),
        "think": nullable(one_of(BOOLEAN, EFFORT)),
        "keep_alive": told(ANY, "Ignored."),
        "logprobs": nullable(BOOLEAN),
        "top_logprobs": nullable(told(whole(0, 20), "Needs logprobs: true.")),
    }
    call = thing(
        "function",
        {
            "id": nullable(STRING),
            "function": thing("name", {"name": STRING, "arguments": nullable(OBJECT)}),
        },
    )
    message = one_of(
        thing(
            "role",
            {"role": const("user"), "content": nullable(STRING), "images": images},
        ),
        thing("role", {"role": const("system"), "content": nullable(STRING)}),
        thing(
            "role",
            {
                "role": const("assistant"),
                "content": nullable(STRING),
                "thinking": nullable(STRING),
                "tool_calls": nullable(array(call)),
            },
        ),
        thing(
            "role",
            {
                "role": const("tool"),
                "content": nullable(STRING),
                "tool_name": nullable(STRING),
                "tool_call_id": nullable(STRING),
            },
        ),
    )
    counts = {
        "done_reason": enum("stop", "length", "load"),
        "total_duration": COUNT,
        "load_duration": COUNT,
        "prompt_eval_count": COUNT,
        "prompt_eval_duration": COUNT,
        "eval_count": COUNT,
        "eval_duration": COUNT,
    }
    head = {
        "model": STRING,
        "created_at": STRING,
        "done": BOOLEAN,
        "logprobs": array(ref("Likelihood")),
    }
    details = thing("format family parameter_size quantization_level", {"format": STRING})
    listed = thing(
        "name model size digest details",
        {"name": STRING, "model": STRING, "size": COUNT, "digest": STRING, "details": details},
    )
    return {
        "OllamaMessage": message,
        "OllamaChatRequest": thing(
            "model",
            {
                **settings,
                "messages": nullable(array(ref("OllamaMessage"), maxItems=limits.max_messages)),
                "tools": nullable(array(ref("Tool"), maxItems=128)),
            },
        ),
        "OllamaGenerateRequest": thing(
            "model",
            {
                **settings,
                "prompt": nullable(STRING),
                "system": nullable(STRING),
                "images": images,
                "raw": nullable(BOOLEAN),
            },
        ),
        "OllamaChatAnswer": thing(
            "model created_at message done",
            {
                **head,
                "message": thing(
                    "role content",
                    {
                        "role": const("assistant"),
                        "content": STRING,
                        "thinking": STRING,
                        "tool_calls": array(call),
                    },
                ),
                **counts,
            },
        ),
        "OllamaGenerateAnswer": thing(
            "model created_at response done",
            {**head, "response": STRING, "thinking": STRING, **counts},
        ),
        "OllamaModels": thing("models", {"models": array(listed)}),
        "OllamaShowRequest": one_of(
            thing("model", {"model": STRING}), thing("name", {"name": STRING})
        ),
        "OllamaModel": thing(
            "details model_info capabilities",
            {"details": details, "model_info": OBJECT, "capabilities": array(STRING)},
        ),
        "OllamaVersion": thing("version", {"version": STRING}),
        "OllamaError": thing("error", {"error": STRING}),
    }
