"""The JSON of a chat request, as types.

No coercion: `true` is not 1 and `"10"` is not 10. Unknown fields are kept aside, to be judged by
`fields`. Ranges are judged by `convert`, which knows the limits.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, ValidationError

from sightline.core.errors import RequestError
from sightline.core.limits import Limits
from sightline.server.json_shape import check_limits


class Body(BaseModel):
    """Part of a request. `unknown` has the fields that the class does not name."""

    model_config = ConfigDict(
        strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=()
    )

    @property
    def unknown(self) -> dict[str, Any]:
        return self.model_extra or {}


AnyBody = TypeVar("AnyBody", bound=Body)


class ImageUrlBody(Body):
    url: str
    detail: Any = None
    min_pixels: int | None = None
    max_pixels: int | None = None


class TextPartBody(Body):
    type: str
    text: str


class RefusalPartBody(Body):
    type: str
    refusal: str


class ImagePartBody(Body):
    """`image_url` and `input_image` parts; the address is a string or an `ImageUrlBody`.

    What is said about the picture may stand beside either.
    """

    type: str
    image_url: Any
    detail: Any = None
    min_pixels: int | None = None
    max_pixels: int | None = None


class MessageBody(Body):
    """`content` is a string, an array of parts, or null where the role allows it."""

    role: str
    content: Any = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Any = None
    function_call: Any = None
    tool_call_id: str | None = None


class StreamOptionsBody(Body):
    include_usage: bool | None = None


class SightlineBody(Body):
    """Our own extension of the request."""

    report: bool | None = None
    stream_tool_arguments: bool | None = None


class ChatBody(Body):
    model: str
    messages: Annotated[list[MessageBody], FailFast()]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Any = None
    min_p: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    repetition_penalty: Any = None
    logit_bias: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    n: Any = None
    stop: Any = None
    seed: int | None = None
    response_format: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    reasoning_effort: str | None = None
    reasoning_format: str | None = None
    enable_thinking: bool | None = None
    thinking: Any = None
    chat_template_kwargs: Any = None
    mm_processor_kwargs: Any = None
    stream: bool | None = None
    stream_options: StreamOptionsBody | None = None
    sightline: SightlineBody | None = None


def parse_chat_body(body: bytes, limits: Limits) -> ChatBody:
    """Return the typed request. Raises `RequestError` with the path of what is wrong.

    Takes up to a tenth of a second for the largest bodies; safe to call in a thread.
    """
    check_limits(body, limits)
    try:
        return ChatBody.model_validate_json(body)
    except ValidationError as error:
        raise schema_error(error) from None


def parse_part(model: type[AnyBody], value: object, path: str) -> AnyBody:
    """Return `value`, which stands at `path`, as a `model`. Raises `RequestError`."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise schema_error(error, path) from None


_EXPECTED = {
    "int_type": "integer",
    "int_from_float": "integer",
    "float_type": "number",
    "string_type": "string",
    "bool_type": "boolean",
    "list_type": "array",
    "model_type": "object",
    "model_attributes_type": "object",
    "dict_type": "object",
}
_POSITION = re.compile(r"line (\d+) column (\d+)")


def schema_error(error: ValidationError, prefix: str = "") -> RequestError:
    """Return the first error of pydantic in our words; its own texts quote the input."""
    first = error.errors(include_url=False)[0]
    kind = first["type"]
    path = join_path(prefix, first["loc"])
    if kind == "json_invalid":
        found = _POSITION.search(first["msg"])
        # An empty body ends before its first column.
        where = f" at line {found[1]}, column {max(int(found[2]), 1)}" if found else ""
        return RequestError(f"Body is not valid JSON{where}.", code="invalid_json")
    if kind == "missing":
        return missing_parameter(path)
    if kind in _EXPECTED:
        return wrong_type(path, _EXPECTED[kind], first["input"])
    if kind == "finite_number":
        return RequestError(f"{path}: must be a finite number.", code="invalid_value", param=path)
    return RequestError(f"{path or 'Body'}: invalid value.", code="invalid_value", param=path)


def join_path(prefix: str, location: tuple[int | str, ...]) -> str:
    """Return a path such as `messages[0].content`."""
    path = prefix
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def missing_parameter(path: str) -> RequestError:
    return RequestError(
        f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path
    )


def wrong_type(path: str, expected: str, value: object) -> RequestError:
    return RequestError(
        f"{path or 'Body'}: expected {expected}, got {json_type(value)}.",
        code="invalid_type",
        param=path or None,
    )


def check_type(values: Mapping[str, Any], name: str, kind: type[str] | type[bool], at: str) -> None:
    """Raise `RequestError` unless `name`, in the object at `at`, is missing, null or a `kind`."""
    value = values.get(name)
    if value is not None and not isinstance(value, kind):
        raise wrong_type(f"{at}.{name}", "string" if kind is str else "boolean", value)


def json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
