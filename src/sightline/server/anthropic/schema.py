"""The JSON of Anthropic's Messages API, as types."""

from typing import Annotated, Any

from pydantic import FailFast

from sightline.server.openai.schema import Body


class AnthropicMessageBody(Body):
    """`content` is a string or an array of blocks."""

    role: str
    content: Any


class MessagesBody(Body):
    """A request of `/v1/messages`; that of `count_tokens` has no `max_tokens`."""

    model: str
    messages: Annotated[list[AnthropicMessageBody], FailFast()]
    max_tokens: int | None = None
    system: Any = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    thinking: Any = None
    output_config: Any = None
    output_format: Any = None
    metadata: Any = None
    service_tier: Any = None


class TextBlockBody(Body):
    type: str
    text: str


class ImageBlockBody(Body):
    type: str
    source: dict[str, Any]


class Base64SourceBody(Body):
    type: str
    media_type: str
    data: str


class UrlSourceBody(Body):
    type: str
    url: str


class ToolUseBlockBody(Body):
    type: str
    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlockBody(Body):
    type: str
    tool_use_id: str
    content: Any = None
    is_error: bool | None = None


class ThinkingBlockBody(Body):
    type: str
    thinking: str
