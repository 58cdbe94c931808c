"""The JSON of a text completion, as types. The other fields are those of a chat request."""

from typing import Any

from sightline.server.openai.schema import Body


class CompletionBody(Body):
    """`prompt` is a text, a list of texts, token ids, or a list of those."""

    model: str
    prompt: Any
    echo: bool | None = None
    suffix: str | None = None
    logprobs: int | None = None
    max_tokens: int | None = None
