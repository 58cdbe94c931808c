"""The objects of a chat's answer, whole or as the chunks of a stream: pure functions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sightline.core.chat import (
    ChatDelta,
    FinishReason,
    Likelihood,
    TokenLikelihood,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from sightline.server.openai.convert import usage_object
from sightline.server.whole_answer import WholeAnswer, WholeChoice

Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerForm:
    """What all objects of one answer share.

    `logprobs`: they were asked for. `legacy_functions`: calls are told in the legacy form.
    """

    completion_id: str
    created: int
    model: str
    fingerprint: str
    logprobs: bool = False
    legacy_functions: bool = False

    def head(self, kind: str) -> Json:
        return {
            "id": self.completion_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def logprobs_object(self, tokens: Sequence[TokenLikelihood]) -> Json | None:
        """Return the likelihoods of `tokens`; null when nobody asked."""
        if not self.logprobs:
            return None
        return {"content": likelihoods(tokens), "refusal": None}

    def finish_reason(self, reason: FinishReason) -> str:
        return "function_call" if self.legacy_functions and reason == "tool_calls" else reason


def completion_object(form: AnswerForm, answer: WholeAnswer) -> Json:
    return {
        **form.head("chat.completion"),
        "choices": [
            {
                "index": index,
                "message": _message(form, choice),
                "logprobs": form.logprobs_object(choice.logprobs),
                "finish_reason": form.finish_reason(choice.finish_reason),
            }
            for index, choice in enumerate(answer.choices)
        ],
        "usage": usage_object(answer.usage),
    }


def _message(form: AnswerForm, choice: WholeChoice) -> Json:
    calls = choice.tool_calls
    message: Json = {
        "role": "assistant",
        "content": choice.text if choice.text or not calls else None,
        "refusal": None,
    }
    if choice.reasoning:
        message |= _both_names(choice.reasoning)
    if calls and form.legacy_functions:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [_call(call) for call in calls]
    return message


def _both_names(reasoning: str) -> Json:
    return {"reasoning_content": reasoning, "reasoning": reasoning}


def _call(call: ToolCall) -> Json:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def likelihoods(tokens: Sequence[TokenLikelihood]) -> list[Json]:
    return [
        {**_likelihood(token), "top_logprobs": [_likelihood(other) for other in token.top]}
        for token in tokens
    ]


def _likelihood(token: Likelihood) -> Json:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(token.raw) if token.raw else None,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkWriter:
    """Builds the chunks of one stream.

    Each choice begins with its role and ends with its finish. With `include_usage`, every chunk
    but the last has `usage: null`; without, none has the key.
    """

    form: AnswerForm
    include_usage: bool
    _begun: set[int] = field(default_factory=set, init=False, repr=False)

    def chunks(self, delta: ChatDelta) -> Iterator[Json]:
        """Yield what tells `delta`, the finish excepted; an idle delta has no chunks."""
        index = delta.index
        if delta.reasoning:
            yield from self._tell(index, _both_names(delta.reasoning))
        if delta.text or delta.logprobs:
            logprobs = self.form.logprobs_object(delta.logprobs)
            yield from self._tell(index, {"content": delta.text}, logprobs)
        for call in delta.tool_calls:
            yield from self._tell(index, self._call(call))

    def finish(self, delta: ChatDelta) -> Iterator[Json]:
        """Yield the last chunk of the choice that `delta` ends."""
        assert delta.finish_reason is not None
        reason = self.form.finish_reason(delta.finish_reason)
        yield from self._begin(delta.index)
        yield self._choice(delta.index, {}, finish_reason=reason)

    def usage(self, usage: Usage) -> Json:
        head = self.form.head("chat.completion.chunk")
        return {**head, "choices": [], "usage": usage_object(usage)}

    def _tell(self, index: int, delta: Json, logprobs: Json | None = None) -> Iterator[Json]:
        yield from self._begin(index)
        yield self._choice(index, delta, logprobs=logprobs)

    def _begin(self, index: int) -> Iterator[Json]:
        if index not in self._begun:
            self._begun.add(index)
            yield self._choice(index, {"role": "assistant", "content": ""})

    def _call(self, call: ToolCallDelta) -> Json:
        function: Json = {"arguments": call.arguments}
        if call.name is not None:
            function = {"name": call.name, **function}
        if self.form.legacy_functions:
            return {"function_call": function}
        told: Json = {"index": call.index, "function": function}
        if call.id is not None:
            told = {
                "index": call.index,
                "id": call.id,
                "type": "function",
                "function": function,
            }
        return {"tool_calls": [told]}

    def _choice(
        self,
        index: int,
        delta: Json,
        *,
        logprobs: Json | None = None,
        finish_reason: str | None = None,
    ) -> Json:
        choice = {
            "index": index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
        }
        chunk: Json = {**self.form.head("chat.completion.chunk"), "choices": [choice]}
        if self.include_usage:
            chunk["usage"] = None
        return chunk
