"""The JSON of `/tokenize` and `/detokenize`, as types; the shapes are vLLM's."""

from typing import Any

from sightline.server.openai.schema import Body


class TokenizeBody(Body):
    """Either `prompt`, a text, or `messages`, a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: Any = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class DetokenizeBody(Body):
    model: str | None = None
    tokens: list[int]
