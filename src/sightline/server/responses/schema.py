"""The JSON of OpenAI's Responses API, as types. What is not named here is judged by name."""

from typing import Any

from sightline.server.openai.schema import Body


class ResponsesBody(Body):
    """`input` is a string or an array of items."""

    model: str
    input: Any
    instructions: str | None = None
    max_output_tokens: int | None = None
    stream: bool | None = None
    stream_options: Any = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    include: list[str] | None = None
    metadata: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    background: bool | None = None
    truncation: str | None = None


class InputMessageBody(Body):
    role: str
    content: Any


class InputTextBody(Body):
    type: str
    text: str


class FunctionCallBody(Body):
    type: str
    call_id: str
    name: str
    arguments: str


class FunctionOutputBody(Body):
    type: str
    call_id: str
    output: Any


class ReasoningItemBody(Body):
    type: str
    summary: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
