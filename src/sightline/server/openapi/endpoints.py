"""The endpoints, one row each: what they take, what they give, and an example of both."""

from dataclasses import dataclass, field
from typing import Any, Literal

Json = dict[str, Any]
Error = Literal["Error", "AnthropicError", "OllamaError"]

# A red circle.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAACAAAAAgAQMAAABJtOi3AAAABlBMVEX///"
    "/cHh7/Hx2WAAAARElEQVR42n3NsRGAIBTA0Me3cAzZRDZzNUZhBAfwwIKzxBS5dOGf/cbxCDmEkmyqFI"
    "kSEEGetVSnzRpUroGzC61/jwUvM1QM6BMEposAAAAASUVORK5CYII="
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """`stream` is the schema of a streamed piece, where an answer can be streamed.

    `example` is a request that works once `MODEL` stands for the model's name.
    """

    method: Literal["get", "post", "delete"]
    path: str
    tag: str
    name: str
    summary: str
    request: str | None = None
    answer: str | None = None
    status: int = 200
    stream: str | None = None
    stream_type: str = "text/event-stream"
    errors: Error = "Error"
    example: Json | None = None
    open: bool = False
    media_type: str = "application/json"
    parameters: tuple[Json, ...] = field(default=())


MODEL = "{model}"
_QUESTION = {"role": "user", "content": "你好"}
_NAME: Json = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}

ENDPOINTS = (
    Endpoint(
        method="post",
        path="/v1/chat/completions",
        tag="Chat",
        name="createChatCompletion",
        summary="An answer to a conversation with pictures, whole or as a stream",
        request="ChatRequest",
        answer="ChatCompletion",
        stream="ChatCompletionChunk",
        example={
            "model": MODEL,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": PICTURE}},
                    ],
                }
            ],
            "max_tokens": 16,
        },
    ),
    Endpoint(
        method="post",
        path="/v1/chat/completions/input_tokens",
        tag="Chat",
        name="countChatTokens",
        summary="What the prompt of a chat costs, images included; nothing is generated",
        request="ChatRequest",
        answer="ChatTokenCount",
        example={"model": MODEL, "messages": [_QUESTION]},
    ),
    Endpoint(
        method="post",
        path="/v1/pictures/preview",
        tag="Chat",
        name="previewPictures",
        summary="What the model would see of the pictures of a chat",
        request="ChatRequest",
        answer="PicturePreviews",
        example={"model": MODEL, "messages": [_QUESTION]},
    ),
    Endpoint(
        method="post",
        path="/v1/completions",
        tag="Text",
        name="createCompletion",
        summary="A text continued as it is, whole or as a stream",
        request="CompletionRequest",
        answer="TextCompletion",
        stream="TextCompletion",
        example={"model": MODEL, "prompt": "Once upon a time", "max_tokens": 8},
    ),
    Endpoint(
        method="post",
        path="/v1/responses",
        tag="Responses",
        name="createResponse",
        summary="OpenAI's Responses API, stateless; whole or as a stream",
        request="ResponseRequest",
        answer="Response",
        stream="ResponseEvent",
        example={"model": MODEL, "input": "你好", "max_output_tokens": 16},
    ),
    Endpoint(
        method="post",
        path="/v1/responses/input_tokens",
        tag="Responses",
        name="countResponseTokens",
        summary="What the prompt of a response costs",
        request="ResponseRequest",
        answer="ResponseTokenCount",
        example={"model": MODEL, "input": "你好"},
    ),
    Endpoint(
        method="get",
        path="/v1/responses/{name}",
        tag="Responses",
        name="retrieveResponse",
        summary="Always 404: nothing is kept",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="delete",
        path="/v1/responses/{name}",
        tag="Responses",
        name="deleteResponse",
        summary="Always 404: nothing is kept",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="get",
        path="/v1/responses/{name}/input_items",
        tag="Responses",
        name="listResponseItems",
        summary="Always 404: nothing is kept",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="post",
        path="/v1/responses/{name}/cancel",
        tag="Responses",
        name="cancelResponse",
        summary="Always 404: nothing is kept",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="get",
        path="/v1/files/{name}",
        tag="Responses",
        name="retrieveFile",
        summary="Always 404: no files are kept",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="delete",
        path="/v1/files/{name}",
        tag="Responses",
        name="deleteFile",
        summary="Always 404: no files are kept",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="get",
        path="/v1/files/{name}/content",
        tag="Responses",
        name="retrieveFileContent",
        summary="Always 404: no files are kept",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="get",
        path="/v1/models",
        tag="Models",
        name="listModels",
        summary="The model, its window, its images",
        answer="ModelList",
    ),
    Endpoint(
        method="get",
        path="/v1/models/{name}",
        tag="Models",
        name="retrieveModel",
        summary="The model by its id or an alias, which may contain slashes",
        answer="Model",
        parameters=(_NAME,),
    ),
    Endpoint(
        method="post",
        path="/v1/tokenize",
        tag="Text",
        name="tokenize",
        summary="A text or a conversation as token ids",
        request="TokenizeRequest",
        answer="Tokens",
        example={"prompt": "你好"},
    ),
    Endpoint(
        method="post",
        path="/v1/detokenize",
        tag="Text",
        name="detokenize",
        summary="Token ids as a text",
        request="DetokenizeRequest",
        answer="Detokenized",
        example={"tokens": [72, 105]},
    ),
    Endpoint(
        method="post",
        path="/v1/messages",
        tag="Anthropic",
        name="createMessage",
        summary="Anthropic's Messages API, whole or as a stream",
        request="AnthropicRequest",
        answer="AnthropicAnswer",
        stream="AnthropicEvent",
        errors="AnthropicError",
        example={"model": MODEL, "max_tokens": 16, "messages": [_QUESTION]},
    ),
    Endpoint(
        method="post",
        path="/v1/messages/count_tokens",
        tag="Anthropic",
        name="countMessageTokens",
        summary="What the prompt of a message costs",
        request="AnthropicCountRequest",
        answer="AnthropicTokenCount",
        errors="AnthropicError",
        example={"model": MODEL, "messages": [_QUESTION]},
    ),
    Endpoint(
        method="post",
        path="/api/chat",
        tag="Ollama",
        name="ollamaChat",
        summary="Ollama's chat, as a stream or whole",
        request="OllamaChatRequest",
        answer="OllamaChatAnswer",
        stream="OllamaChatAnswer",
        stream_type="application/x-ndjson",
        errors="OllamaError",
        example={"model": MODEL, "messages": [_QUESTION], "stream": False},
    ),
    Endpoint(
        method="post",
        path="/api/generate",
        tag="Ollama",
        name="ollamaGenerate",
        summary="Ollama's answer to a prompt, as a stream or whole",
        request="OllamaGenerateRequest",
        answer="OllamaGenerateAnswer",
        stream="OllamaGenerateAnswer",
        stream_type="application/x-ndjson",
        errors="OllamaError",
        example={"model": MODEL, "prompt": "你好", "stream": False},
    ),
    Endpoint(
        method="post",
        path="/api/show",
        tag="Ollama",
        name="ollamaShow",
        summary="The model as Ollama describes one",
        request="OllamaShowRequest",
        answer="OllamaModel",
        errors="OllamaError",
        example={"model": MODEL},
    ),
    Endpoint(
        method="get",
        path="/api/tags",
        tag="Ollama",
        name="ollamaTags",
        summary="The model in Ollama's list",
        answer="OllamaModels",
        errors="OllamaError",
    ),
    Endpoint(
        method="get",
        path="/api/ps",
        tag="Ollama",
        name="ollamaRunning",
        summary="The model that runs",
        answer="OllamaModels",
        errors="OllamaError",
    ),
    Endpoint(
        method="get",
        path="/api/version",
        tag="Ollama",
        name="ollamaVersion",
        summary="The version of Ollama whose shapes are spoken",
        answer="OllamaVersion",
        errors="OllamaError",
    ),
    *(
        Endpoint(
            method="get",
            path=path,
            tag="Server",
            name=name,
            summary=summary,
            answer="Health",
            open=True,
        )
        for path, name, summary in (
            ("/health", "health", "200 when an answer could start now"),
            ("/health/ready", "healthReady", "The same"),
            ("/ready", "ready", "The same"),
            ("/health/live", "healthLive", "200 as soon as the port is open"),
        )
    ),
    Endpoint(
        method="get",
        path="/version",
        tag="Server",
        name="version",
        summary="Name and version",
        answer="Version",
        open=True,
    ),
    Endpoint(
        method="get",
        path="/metrics",
        tag="Server",
        name="metrics",
        summary="Numbers for Prometheus",
        media_type="text/plain",
    ),
    Endpoint(
        method="get",
        path="/v1/server/status",
        tag="Server",
        name="serverStatus",
        summary="The state of the server",
        answer="ServerStatus",
    ),
    Endpoint(
        method="get",
        path="/v1/server/requests",
        tag="Server",
        name="serverRequests",
        summary="The last requests of the caller",
        answer="RequestList",
    ),
    Endpoint(
        method="get",
        path="/openapi.json",
        tag="Server",
        name="openapi",
        summary="This document",
    ),
)
