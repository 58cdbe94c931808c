"""The events of a streamed response, in the order that clients insist on. No I/O.

    created, in_progress
      per item: output_item.added, content_part.added, delta*, done, content_part.done,
                output_item.done                              (calls have no content part)
    completed | incomplete | failed

Every event has the next sequence number. Items come one after another, and `done` repeats what
`added` and the deltas have told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sightline.core.chat import ChatDelta, TokenLikelihood, ToolCall, ToolCallDelta, Usage
from sightline.server.openai.answers import likelihoods
from sightline.server.responses.answer import (
    ItemStatus,
    Json,
    ResponseForm,
    call_item,
    final_status,
    message_item,
    new_id,
    reasoning_item,
    reasoning_part,
    text_part,
)


@dataclass(slots=True)
class _OpenItem:
    """The item that is being told. `kind` is `reasoning`, `message` or `function_call`."""

    kind: str
    item_id: str
    call: ToolCallDelta | None = None
    text: list[str] = field(default_factory=list)
    logprobs: list[TokenLikelihood] = field(default_factory=list)


class ResponseEvents:
    """Builds the events of one stream."""

    def __init__(self, form: ResponseForm) -> None:
        self._form = form
        self._sequence = 0
        self._done: list[Json] = []
        self._open: _OpenItem | None = None

    def start(self) -> Iterator[Json]:
        for name in ("created", "in_progress"):
            yield self._event(name, response=self._form.response("in_progress"))

    def of(self, delta: ChatDelta) -> Iterator[Json]:
        """Yield the events that `delta` makes; the last delta ends the response."""
        if delta.reasoning:
            yield from self._enter("reasoning")
            yield self._gain("reasoning_text.delta", delta.reasoning)
        if delta.text or delta.logprobs:
            yield from self._enter("message")
            logprobs = likelihoods(delta.logprobs)
            yield self._gain(
                "output_text.delta", delta.text, logprobs=logprobs, likelihoods=delta.logprobs
            )
        for call in delta.tool_calls:
            yield from self._enter("function_call", call)
            if call.arguments:
                yield self._gain("function_call_arguments.delta", call.arguments)
        if delta.finish_reason is not None and delta.usage is not None:
            if self._open is None and not self._done:
                yield from self._enter("message")  # an answer without a word is a message, too
            yield from self._end(final_status(delta.finish_reason), delta.usage)

    def fail(self, code: str, message: str) -> Iterator[Json]:
        """Yield what ends a response that cannot go on; one that has not begun begins first."""
        if not self._sequence:
            yield from self.start()
        error = {"code": code, "message": message}
        yield self._event("failed", response=self._form.response("failed", self._done, error=error))

    def _end(self, status: ItemStatus, usage: Usage) -> Iterator[Json]:
        yield from self._leave(status)
        response = self._form.response(status, self._done, usage=usage)
        yield self._event(status, response=response)

    def _enter(self, kind: str, call: ToolCallDelta | None = None) -> Iterator[Json]:
        """Open an item of `kind`, unless it is open; the one before it is done then."""
        item = self._open
        if item is not None and item.kind == kind and _same_call(item.call, call):
            return
        yield from self._leave("completed")
        prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[kind]
        self._open = _OpenItem(kind, new_id(prefix), call)
        yield self._event(
            "output_item.added", output_index=len(self._done), item=self._item("in_progress")
        )
        if kind != "function_call":
            yield self._event("content_part.added", **self._place(), part=self._part())

    def _gain(
        self,
        name: str,
        text: str,
        *,
        likelihoods: Sequence[TokenLikelihood] = (),
        **more: object,
    ) -> Json:
        assert self._open is not None
        event = self._event(name, **self._place(), delta=text, **more)
        self._open.text.append(text)
        self._open.logprobs.extend(likelihoods)
        return event

    def _leave(self, status: ItemStatus) -> Iterator[Json]:
        item = self._open
        if item is None:
            return
        text = "".join(item.text)
        match item.kind:
            case "reasoning":
                yield self._event("reasoning_text.done", **self._place(), text=text)
            case "message":
                logprobs = likelihoods(item.logprobs)
                yield self._event("output_text.done", **self._place(), text=text, logprobs=logprobs)
            case _:
                assert item.call is not None
                yield self._event(
                    "function_call_arguments.done",
                    **self._place(),
                    name=item.call.name,
                    arguments=text,
                )
        if item.kind != "function_call":
            yield self._event("content_part.done", **self._place(), part=self._part())
        whole = self._item(status)
        yield self._event("output_item.done", output_index=len(self._done), item=whole)
        self._done.append(whole)
        self._open = None

    def _place(self) -> Json:
        assert self._open is not None
        place: Json = {"item_id": self._open.item_id, "output_index": len(self._done)}
        return place if self._open.kind == "function_call" else {**place, "content_index": 0}

    def _part(self) -> Json:
        assert self._open is not None
        text = "".join(self._open.text)
        if self._open.kind == "reasoning":
            return reasoning_part(text)
        return text_part(text, self._open.logprobs)

    def _item(self, status: ItemStatus) -> Json:
        """Return the open item; while it is in progress, without its content."""
        item = self._open
        assert item is not None
        is_new = status == "in_progress"
        match item.kind:
            case "reasoning":
                return reasoning_item(item.item_id, None if is_new else "".join(item.text), status)
            case "message":
                return message_item(item.item_id, [] if is_new else [self._part()], status)
            case _:
                assert item.call is not None
                call = ToolCall(
                    id=item.call.id or "",
                    name=item.call.name or "",
                    arguments="".join(item.text),
                )
                return call_item(item.item_id, call, status)

    def _event(self, name: str, /, **fields: object) -> Json:
        event = {"type": f"response.{name}", "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return event


def _same_call(one: ToolCallDelta | None, other: ToolCallDelta | None) -> bool:
    return (one and one.index) == (other and other.index)
