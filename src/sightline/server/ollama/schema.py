"""The JSON of Ollama's API, as types. `stream` is true unless it is false."""

from typing import Annotated, Any

from pydantic import BeforeValidator, FailFast, Field

from sightline.server.openai.schema import Body


class OllamaMessageBody(Body):
    role: str
    content: str | None = None
    images: list[str] | None = None
    thinking: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OllamaSettings(Body):
    """What `chat` and `generate` have in common."""

    model: str
    stream: bool | None = None
    format: Any = None
    options: dict[str, Any] | None = None
    think: Any = None
    keep_alive: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


_Messages = Annotated[
    list[OllamaMessageBody],
    FailFast(),
    BeforeValidator(lambda messages: [] if messages is None else messages),
]


class OllamaChatBody(OllamaSettings):
    messages: _Messages = Field(default_factory=list)
    tools: Any = None


class OllamaGenerateBody(OllamaSettings):
    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None


class OllamaShowBody(Body):
    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
