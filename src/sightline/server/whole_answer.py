"""Answers for those who want them whole, in no particular dialect."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.responses import Response

from sightline.core.chat import (
    ChatDelta,
    ChatRequest,
    FinishReason,
    ImageReport,
    TokenLikelihood,
    ToolCall,
    Usage,
)
from sightline.core.errors import InternalError, Unavailable
from sightline.server import ascii_json
from sightline.server.context import RequestContext
from sightline.server.contract import Answer, Asked
from sightline.server.lifecycle import Lifecycle
from sightline.service.choices import MAX_REPEATS
from sightline.service.request_log import Facts

T = TypeVar("T")
# With the alternatives beside it, the likelihood of one token is a kilobyte or two of JSON.
MAX_LOOP_LIKELIHOODS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeChoice:
    """One of the answers to a request, complete."""

    text: str = field(repr=False)
    reasoning: str = field(repr=False)
    tool_calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLikelihood, ...] = field(repr=False)
    finish_reason: FinishReason
    stop_string: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswer:
    """All choices of a request, in order, and what they cost together."""

    model: str
    choices: tuple[WholeChoice, ...]
    usage: Usage
    images: Sequence[ImageReport]


class ChoiceParts:
    """Gathers what the deltas of one choice bring."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._logprobs: list[TokenLikelihood] = []
        self._calls: dict[int, tuple[str, str, list[str]]] = {}
        self.finish_reason: FinishReason | None = None
        self.stop_string: str | None = None

    def add(self, delta: ChatDelta) -> None:
        self._text.append(delta.text)
        self._reasoning.append(delta.reasoning)
        self._logprobs.extend(delta.logprobs)
        for call in delta.tool_calls:
            if call.index not in self._calls:
                self._calls[call.index] = (call.id or "", call.name or "", [])
            self._calls[call.index][2].append(call.arguments)
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop_string = delta.stop_string or self.stop_string

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls so far, in their order."""
        return tuple(
            ToolCall(id=call_id, name=name, arguments="".join(arguments))
            for _, (call_id, name, arguments) in sorted(self._calls.items())
        )

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    def whole(self) -> WholeChoice:
        """Return the choice. It must have ended."""
        if self.finish_reason is None:
            raise InternalError
        return WholeChoice(
            text=self.text,
            reasoning=self.reasoning,
            tool_calls=self.tool_calls,
            logprobs=tuple(self._logprobs),
            finish_reason=self.finish_reason,
            stop_string=self.stop_string,
        )


async def whole_answer(
    chat: Asked,
    request: ChatRequest,
    context: RequestContext,
    lifecycle: Lifecycle,
    *,
    facts: Facts | None = None,
) -> WholeAnswer:
    """Ask, and return everything once it is there.

    Notices go to `context`, and so do the facts of the request unless `facts` takes them. What an
    engine was saying when it died is asked again: nobody has heard any of it.
    """
    num_repeats = 0
    with lifecycle.running_answer():
        while True:
            answer = await chat.start(request, facts=context.log if facts is None else facts)
            if not num_repeats:
                context.notices.extend(answer.notices)
            parts: dict[int, ChoiceParts] = {}
            try:
                return await _gather(answer, parts)
            except Unavailable as error:
                # Without parts the engine has tried again by itself for as long as it may.
                is_lost = error.code == "engine_restarting" and bool(parts)
                if not is_lost or num_repeats == MAX_REPEATS:
                    raise
                num_repeats += 1


async def _gather(answer: Answer, parts: dict[int, ChoiceParts]) -> WholeAnswer:
    """Read `answer` to its end; what has come stands in `parts`."""
    usage: Usage | None = None
    async with aclosing(answer):
        async for delta in answer:
            parts.setdefault(delta.index, ChoiceParts()).add(delta)
            usage = delta.usage or usage
    if usage is None:
        raise InternalError
    return WholeAnswer(
        model=answer.model,
        choices=tuple(choice.whole() for _, choice in sorted(parts.items())),
        usage=usage,
        images=answer.images,
    )


async def tell(answers: Sequence[WholeAnswer], build: Callable[[], object]) -> Response:
    """Return what `build` makes of `answers`; where many tokens are told, a thread makes it."""
    told = sum(len(choice.logprobs) for answer in answers for choice in answer.choices)
    if told <= MAX_LOOP_LIKELIHOODS:
        data = ascii_json.encode(build())
    else:
        data = await asyncio.to_thread(lambda: ascii_json.encode_parts(build()))
    return Response(data, media_type="application/json")


async def side_by_side(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results in order; the first failure cancels the rest and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
