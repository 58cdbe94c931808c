"""From `/tokenize` and `/detokenize` to what the service knows, and back: pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.core.chat import ChatRequest, Notice
from sightline.core.errors import shorten
from sightline.server import ascii_json
from sightline.server.intake import Terms
from sightline.server.openai.fields import invalid_value, unsupported
from sightline.server.openai.schema import missing_parameter
from sightline.server.renames import Renames
from sightline.server.tokens.schema import DetokenizeBody, TokenizeBody
from sightline.server.via_chat import judge_chat
from sightline.service.strict_mode import refuse_warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeCall:
    """What to tokenize: `text`, or the prompt of `request`. `model` None is the one there is."""

    model: str | None
    text: str | None
    request: ChatRequest | None
    with_prefix: bool
    return_strings: bool
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeCall:
    model: str | None
    token_ids: Sequence[int]
    notices: tuple[Notice, ...]


def to_tokenize_call(
    body: TokenizeBody, terms: Terms, *, default_model: str, request_id: str
) -> TokenizeCall:
    """Convert a typed request. Raises `RequestError` with the exact path of what is wrong."""
    if body.prompt is not None and body.messages is not None:
        raise invalid_value("prompt", "send either prompt or messages.")
    # The prompt of a conversation always ends with the header of the answer.
    if body.add_generation_prompt is False:
        raise unsupported("add_generation_prompt", "add_generation_prompt: false is not supported.")
    if body.continue_final_message:
        raise unsupported("continue_final_message")
    request: ChatRequest | None = None
    if body.prompt is not None:
        notices = _unknown(body.unknown, terms)
    elif body.messages is not None:
        # A conversation has the control tokens that it needs.
        further = [Notice(field="add_special_tokens", reason="not-used")]
        call = judge_chat(
            {"model": body.model or default_model, "messages": body.messages, **body.unknown},
            Renames(),
            terms,
            request_id=request_id,
            notices=further if body.add_special_tokens else (),
        )
        request, notices = call.request, call.notices
    else:
        raise missing_parameter("prompt")
    return TokenizeCall(
        model=body.model,
        text=body.prompt,
        request=request,
        with_prefix=body.add_special_tokens is not False,
        return_strings=bool(body.return_token_strs),
        notices=notices,
    )


def to_detokenize_call(body: DetokenizeBody, terms: Terms) -> DetokenizeCall:
    return DetokenizeCall(
        model=body.model, token_ids=body.tokens, notices=_unknown(body.unknown, terms)
    )


def tokens_json(
    token_ids: Sequence[int],
    strings_of: Callable[[Sequence[int]], Sequence[str]] | None,
    *,
    max_model_len: int,
) -> bytes:
    """Return the answer to a tokenize request; `strings_of` tells the texts of ids."""
    head = ascii_json.encode({"count": len(token_ids), "max_model_len": max_model_len})
    strings = None if strings_of is None else ascii_json.encode_list(strings_of(token_ids))
    return b'%b,"tokens":%b,"token_strs":%b}' % (
        head[:-1],
        ascii_json.encode_list(token_ids),
        strings or b"null",
    )


def _unknown(fields: dict[str, Any], terms: Terms) -> tuple[Notice, ...]:
    notices = tuple(
        Notice(field=shorten(name), reason="unknown-field")
        for name, value in fields.items()
        if value is not None
    )
    if terms.strict:
        refuse_warnings(notices)
    return notices
