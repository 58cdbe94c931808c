"""Schemas of Responses, of Anthropic's Messages and of Ollama's API."""

from sightline.core.limits import Limits
from sightline.server.openapi.chat import IGNORED
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
    return {**_responses(), **_anthropic(limits), **_ollama(limits)}


def _responses() -> dict[str, Schema]:
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
                "type": const("message"),
                "role": const("user"),
                "content": one_of(STRING, array(one_of(words, picture))),
            },
        ),
        thing(
            "role content",
            {
                "type": const("message"),
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
                "reasoning": nullable(thing("", {"effort": nullable(STRING), "summary": IGNORED})),
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


def _anthropic(limits: Limits) -> dict[str, Schema]:
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


def _ollama(limits: Limits) -> dict[str, Schema]:
    stop = text(1, limits.max_stop_chars)
    options = thing(
        "",
        {
            "temperature": nullable(number(0, 2)),
            "top_p": nullable(number(0, 1, above_low=True)),
            "top_k": nullable(whole(-1, 2**31 - 1)),
            "min_p": nullable(number(0, 1)),
            "seed": nullable({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}),
            "num_predict": nullable(one_of(whole(1), {"type": "integer", "enum": [-1, -2]})),
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
        "think": nullable(one_of(BOOLEAN, STRING)),
        "keep_alive": told(ANY, "Ignored."),
    }
    call = thing(
        "function",
        {"function": thing("name", {"name": STRING, "arguments": nullable(OBJECT)})},
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
    head = {"model": STRING, "created_at": STRING, "done": BOOLEAN}
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
                "messages": array(ref("OllamaMessage"), maxItems=limits.max_messages),
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
