"""From text completions to `core.chat` and back: pure functions, no I/O.

A completion is a chat request without a chat: the same settings under the same rules, and a text,
or token ids, to be continued as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sightline.core.chat import (
    ChatRequest,
    FinishReason,
    Likelihood,
    Notice,
    TokenLikelihood,
    Usage,
)
from sightline.core.errors import RequestError, shorten
from sightline.core.limits import Limits
from sightline.server.completions.schema import CompletionBody
from sightline.server.intake import Terms
from sightline.server.openai.convert import usage_object
from sightline.server.openai.fields import (
    MAX_TOP_LOGPROBS,
    RULES,
    check_number,
    invalid_value,
    unsupported,
)
from sightline.server.openai.schema import ChatBody, missing_parameter, wrong_type
from sightline.server.renames import Renames
from sightline.server.via_chat import judge_chat
from sightline.server.whole_answer import WholeAnswer

# At OpenAI a completion is this long when nothing is said about it.
DEFAULT_MAX_TOKENS = 16
# What belongs to conversations means nothing here.
_NOT_HERE = frozenset(
    {
        "max_completion_tokens",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "reasoning_effort",
        "reasoning_format",
        "enable_thinking",
        "thinking",
        "chat_template",
        "chat_template_kwargs",
        "mm_processor_kwargs",
        "sightline",
        "top_logprobs",
    }
)
_PICTURES = frozenset({"messages", "image", "images", "image_url", "image_data"})
_SHARED = (frozenset(ChatBody.model_fields) | frozenset(RULES)) - _NOT_HERE - _PICTURES

RawPrompt = str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionCall:
    """One request per prompt, in order; `n` choices of each. `renames` has one for each."""

    completion_id: str
    requests: tuple[ChatRequest, ...]
    renames: tuple[Renames, ...]
    notices: tuple[Notice, ...]
    stream: bool
    include_usage: bool


def to_completion_call(body: CompletionBody, terms: Terms, *, completion_id: str) -> CompletionCall:
    """Convert a typed request. Raises `RequestError` with the exact path of what is wrong."""
    prompts = _prompts(body.prompt, terms.limits)
    if body.suffix:
        raise unsupported("suffix")
    if body.echo:
        raise unsupported("echo")
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": [{"role": "user", "content": ""}],
        "max_tokens": body.max_tokens,
    }
    if body.logprobs is not None:
        check_number("logprobs", body.logprobs, 0, MAX_TOP_LOGPROBS, whole=True)
        fields |= {"logprobs": True, "top_logprobs": body.logprobs}
    notices: list[Notice] = []
    for name, value in body.unknown.items():
        if name in _PICTURES and value is not None:
            raise unsupported(
                name, f"'{name}' is not supported here; use /v1/chat/completions for pictures."
            )
        if name in _SHARED or name.startswith("guided_"):
            fields[name] = value
        elif value is not None:
            notices.append(Notice(field=shorten(name), reason="unknown-field"))
    is_list = isinstance(body.prompt, list) and not _is_id(body.prompt[0])
    paths = [f"prompt[{index}]" if is_list else "prompt" for index in range(len(prompts))]
    renames = Renames({"messages": "prompt", "top_logprobs": "logprobs"})
    call = judge_chat(fields, renames, terms, request_id=completion_id, notices=notices)
    return CompletionCall(
        completion_id=completion_id,
        requests=tuple(
            replace(
                call.request,
                request_id=f"{completion_id}-{index}",
                messages=(),
                raw_prompt=prompt,
                default_max_tokens=DEFAULT_MAX_TOKENS,
            )
            for index, prompt in enumerate(prompts)
        ),
        renames=tuple(
            Renames({**renames.names, "messages": path, "prompt": path}) for path in paths
        ),
        notices=call.notices,
        stream=call.stream,
        include_usage=call.include_usage,
    )


def _prompts(prompt: Any, limits: Limits) -> tuple[RawPrompt, ...]:
    if isinstance(prompt, str):
        return (prompt,)
    if not isinstance(prompt, list):
        raise wrong_type("prompt", "string or array", prompt)
    if not prompt:
        raise missing_parameter("prompt")
    if _is_id(prompt[0]):
        return (token_ids(prompt, "prompt"),)
    if len(prompt) > limits.max_prompts:
        raise invalid_value("prompt", f"{len(prompt)} prompts, at most {limits.max_prompts}.")
    return tuple(_one_prompt(one, f"prompt[{index}]") for index, one in enumerate(prompt))


def _one_prompt(prompt: Any, path: str) -> RawPrompt:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list):
        return token_ids(prompt, path)
    if isinstance(prompt, dict):
        raise RequestError(
            f"{path}: expected string or array, got object; use /v1/chat/completions for pictures.",
            code="invalid_type",
            param=path,
        )
    raise wrong_type(path, "string or array", prompt)


def token_ids(values: list[Any], path: str) -> tuple[int, ...]:
    """Return `values` as token ids; whether the model has them is not known here."""
    for index, value in enumerate(values):
        if not _is_id(value):
            raise wrong_type(f"{path}[{index}]", "integer", value)
    return tuple(values)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class LegacyLogprobs:
    """Likelihoods as completions tell them: parallel lists, with offsets into the text.

    One for each choice, so that the offsets of a stream go on from chunk to chunk.
    """

    def __init__(self) -> None:
        self._offset = 0

    def of(self, tokens: Sequence[TokenLikelihood]) -> dict[str, object]:
        """Return the object for `tokens`, which come next."""
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.raw.decode("utf-8", "ignore"))
        return {
            "tokens": [token_text(token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            # The token itself is told even if it is not among the likeliest; those come last, so
            # that of two with one text the likelier stays.
            "top_logprobs": [
                {token_text(other): other.logprob for other in (token, *reversed(token.top))}
                for token in tokens
            ],
            "text_offset": offsets,
        }


def token_text(token: Likelihood) -> str:
    """Return a token as text; a part of a character is spelled out as its bytes."""
    try:
        return token.raw.decode() or token.text
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in token.raw)


def add_usage(usages: Sequence[Usage]) -> Usage:
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionWriter:
    """Builds the objects of one completion, whole or in chunks; all share id, time and model.

    With `include_usage`, every chunk but the last has `usage: null`; without, none has the key.
    `logprobs`: they were asked for.
    """

    completion_id: str
    created: int
    model: str
    fingerprint: str
    include_usage: bool = False
    logprobs: bool = False

    def whole(self, answers: Sequence[WholeAnswer]) -> dict[str, object]:
        choices = [choice for answer in answers for choice in answer.choices]
        return {
            **self._head(),
            "choices": [
                {
                    "text": choice.text,
                    "index": index,
                    "logprobs": LegacyLogprobs().of(choice.logprobs) if self.logprobs else None,
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(choices)
            ],
            "usage": usage_object(add_usage([answer.usage for answer in answers])),
        }

    def chunk(
        self,
        index: int,
        text: str,
        *,
        logprobs: dict[str, object] | None = None,
        finish_reason: FinishReason | None = None,
    ) -> dict[str, object]:
        choice = {
            "text": text,
            "index": index,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        chunk = {**self._head(), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk

    def usage(self, usages: Sequence[Usage]) -> dict[str, object]:
        return {**self._head(), "choices": [], "usage": usage_object(add_usage(usages))}

    def _head(self) -> dict[str, object]:
        return {
            "id": self.completion_id,
            "object": "text_completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }
