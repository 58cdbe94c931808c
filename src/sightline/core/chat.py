"""A conversation and its answer, in no particular dialect.

Every HTTP dialect is a pair of pure functions onto these types.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Severity = Literal["info", "warn"]
DetailLevel = Literal["auto", "low", "high", "original"]
BoxUnits = Literal["thousandths", "pixels"]
"""In what a model says where something is: of width and height, or pixels of what it was shown."""
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBounds:
    """How many pixels of a picture the model shall see; None: as many as it is made for.

    `param` is the path of the object in the request that says so.
    """

    param: str
    min_pixels: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How closely the model shall look at a picture: `level` as the request at `param` says it."""

    param: str
    level: DetailLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineText:
    """The base64 digits of a picture that this server has read before, and their digest.

    They stand in `pieces`, as they came in.
    """

    pieces: tuple[memoryview, ...] = field(repr=False)
    digest: bytes = field(repr=False)

    @property
    def num_digits(self) -> int:
        return sum(map(len, self.pieces))

    def text(self) -> str:
        return b"".join(self.pieces).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePart:
    """A picture by reference: an http(s) URL, a data URI or bare base64, as the client sent it.

    `param` is the part's path in the request, used in errors, for example
    `messages[0].content[1].image_url`. With `inline`, only the beginning of the data URI is left
    in `source`.
    """

    source: str = field(repr=False)
    param: str
    detail: Detail | None = None
    bounds: PixelBounds | None = None
    inline: InlineText | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool, complete. `arguments` is text, as a model wrote it; usually JSON.

    In an answer the service has made up `id`; in the history it is the client's.
    """

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn. `parts` keep the order of text and images that the client chose.

    `reasoning` and `tool_calls` are an assistant's. `tool_call_id` names the call that a tool's
    message answers; it may be missing where a dialect has none.
    """

    role: Role
    parts: tuple[TextPart | ImagePart, ...] = ()
    reasoning: str = field(default="", repr=False)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        return tuple(part for part in self.parts if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call. `parameters` is a JSON schema of an object.

    `definition` is the function as the client described it, for prompts that quote it; `param` is
    the path of the schema in the request, used in errors.
    """

    name: str
    parameters: Mapping[str, Any] = field(repr=False)
    definition: Mapping[str, Any] = field(repr=False)
    param: str

    @property
    def description(self) -> str:
        return str(self.definition.get("description") or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """`auto`: the model decides; `none`: no call; `required`: at least one call.

    With `name` the call must be of that tool; the mode is then `required`. With `allowed` only
    those tools are offered.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None
    allowed: frozenset[str] | None = None

    def allows(self, name: str) -> bool:
        if self.mode == "none" or self.name not in (None, name):
            return False
        return self.allowed is None or name in self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """The answer's text must be JSON, of `schema` if there is one, else any object.

    `param` is the path of the schema in the request, used in errors.
    """

    schema: Mapping[str, Any] | bool | None = field(default=None, repr=False)
    param: str = "response_format"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something the client asked for that was ignored or changed.

    `info`: the answer cannot differ because of it. `warn`: it can; strict mode refuses it.
    """

    field: str
    reason: str
    severity: Severity = "warn"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A validated chat request. None means the model's or the server's default.

    `max_tokens_param` is the name under which the client gave `max_tokens`, used in notices;
    `default_max_tokens` is what its dialect says of those who give none.
    `raw_prompt`, if there is one, is continued as it is, and there are no messages: a text, or
    token ids that may be control tokens, too.
    `n` answers are made of one prompt. `logprobs` is None when nobody asked, else the number of
    alternatives beside each token. Without `parallel_tool_calls` there is at most one call.
    `thinking` switches a thinking model; `thinking_params` are the fields that tried to. Without
    `split_reasoning` its thoughts stay in the text.
    `stream_tool_arguments` asks for calls piece by piece instead of whole.
    """

    request_id: str
    model: str
    messages: Sequence[Message] = ()
    raw_prompt: str | tuple[int, ...] | None = field(default=None, repr=False)
    max_tokens: int | None = None
    max_tokens_param: str = "max_tokens"
    default_max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    response_format: ResponseFormat | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    stream_tool_arguments: bool = False
    thinking: bool | None = None
    thinking_params: tuple[str, ...] = ()
    split_reasoning: bool = True
    strict: bool = False
    cache_salt: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """`prompt_tokens` counts the images' tokens too; `image_tokens` says how many they are.

    `completion_tokens` are those of all choices together; the prompt counts once.
    """

    prompt_tokens: int
    completion_tokens: int
    image_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReport:
    """What became of one image: where it stood, its sizes, its cost.

    `cached`: it had been decoded before. In `box_units` answers say where something is in it.
    """

    param: str
    original_width: int
    original_height: int
    width: int
    height: int
    num_tokens: int
    cached: bool = False
    box_units: BoxUnits = "thousandths"


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """What a token stands for, and how likely it was.

    `raw` are its bytes, perhaps a part of a character; `text` is what they read as by themselves,
    or the name of a control token, which stands for no bytes.
    """

    token_id: int
    raw: bytes = field(repr=False)
    text: str = field(repr=False)
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLikelihood(Likelihood):
    """A token of the answer; `top` are the likeliest tokens in its place, best first."""

    top: tuple[Likelihood, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta:
    """What the call number `index` of a choice gained.

    The first delta of a call has `id` and `name`, later ones have neither. All `arguments` of a
    call joined are the whole text.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatDelta:
    """What the choice `index` of an answer gained.

    `text` and `reasoning` never split a character, and `text` never holds a part of a stop
    string. The last delta of a choice, and only it, has `finish_reason`; the last delta of the
    answer, and only it, has `usage`. `logprobs`, if they were asked for, come with the text that
    their tokens completed, or later. `stop_string` is what ended the choice, if one of them did.
    """

    index: int = 0
    text: str = field(default="", repr=False)
    reasoning: str = field(default="", repr=False)
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLikelihood, ...] = field(default=(), repr=False)
    finish_reason: FinishReason | None = None
    stop_string: str | None = field(default=None, repr=False)
    usage: Usage | None = None
