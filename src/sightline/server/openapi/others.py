"""Schemas of models, counting, tokens, status, health and errors."""

from sightline.core.limits import Limits
from sightline.server.openapi.shapes import (
    BOOLEAN,
    COUNT,
    NUMBER,
    OBJECT,
    STRING,
    Schema,
    array,
    const,
    enum,
    nullable,
    one_of,
    ref,
    thing,
    whole,
)


def schemas(limits: Limits) -> dict[str, Schema]:
    model = thing(
        "id object created owned_by max_model_len sightline",
        {
            "id": STRING,
            "object": const("model"),
            "created": COUNT,
            "owned_by": STRING,
            "max_model_len": COUNT,
            "sightline": thing(
                "aliases input_modalities max_images tools structured_output thinking",
                {
                    "aliases": array(STRING),
                    "input_modalities": array(enum("text", "image")),
                    "max_images": COUNT,
                    "tokens_per_image": nullable(COUNT),
                    "image_size": nullable(array(COUNT)),
                    "min_pixels": nullable(COUNT),
                    "max_pixels": nullable(COUNT),
                    "pixels_per_token": nullable(COUNT),
                    "detail": OBJECT,
                    "tools": BOOLEAN,
                    "structured_output": BOOLEAN,
                    "thinking": BOOLEAN,
                },
            ),
        },
    )
    messages = array(ref("Message"), minItems=1, maxItems=limits.max_messages)
    return {
        "Model": model,
        "ModelList": thing("object data", {"object": const("list"), "data": array(ref("Model"))}),
        "ChatTokenCount": thing(
            "object model input_tokens text_tokens image_tokens max_model_len images",
            {
                "object": const("chat.completion.input_tokens"),
                "model": STRING,
                "input_tokens": COUNT,
                "text_tokens": COUNT,
                "image_tokens": COUNT,
                "max_model_len": COUNT,
                "images": array(thing("param tokens", {"param": STRING, "tokens": COUNT})),
            },
        ),
        "PicturePreviews": thing(
            "object data",
            {
                "object": const("list"),
                "data": array(
                    {"allOf": [ref("ImageReport"), thing("image_url", {"image_url": STRING})]}
                ),
            },
        ),
        "TokenizeRequest": one_of(
            thing(
                "prompt",
                {
                    "model": nullable(STRING),
                    "prompt": STRING,
                    "add_special_tokens": nullable(BOOLEAN),
                    "return_token_strs": nullable(BOOLEAN),
                },
            ),
            thing(
                "messages",
                {
                    "model": nullable(STRING),
                    "messages": messages,
                    "return_token_strs": nullable(BOOLEAN),
                },
            ),
        ),
        "Tokens": thing(
            "count max_model_len tokens token_strs",
            {
                "count": COUNT,
                "max_model_len": COUNT,
                "tokens": array(COUNT),
                "token_strs": nullable(array(STRING)),
            },
        ),
        "DetokenizeRequest": thing(
            "tokens", {"model": nullable(STRING), "tokens": array(whole(0))}
        ),
        "Detokenized": thing("prompt", {"prompt": STRING}),
        "Error": thing(
            "error",
            {
                "error": thing(
                    "message type param code",
                    {
                        "message": {"type": "string", "maxLength": 300},
                        "type": STRING,
                        "param": nullable(STRING),
                        "code": nullable(STRING),
                    },
                )
            },
        ),
        "Health": thing("status", {"status": STRING, "model": STRING}),
        "Version": thing("name version", {"name": STRING, "version": STRING}),
        "ServerStatus": thing(
            "object version uptime_s",
            {"object": const("server.status"), "version": STRING, "uptime_s": NUMBER},
        ),
        "RequestList": thing(
            "object data",
            {"object": const("list"), "shows_content": BOOLEAN, "data": array(OBJECT)},
        ),
    }
