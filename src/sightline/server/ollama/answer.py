"""From `core.chat` to Ollama's objects: pure functions, no I/O.

A stream is one object a line, the last with `done: true` and the counts; a whole answer is that
last object with all of the text.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sightline.core.chat import FinishReason, TokenLikelihood, ToolCall, Usage
from sightline.server.openai.answers import likelihoods
from sightline.service.served_model import ServedModel

# The version whose shapes these are; clients ask for it before they use newer ones.
OLLAMA_VERSION = "0.12.11"
_DONE_REASONS: dict[FinishReason, str] = {"stop": "stop", "length": "length", "tool_calls": "stop"}

Kind = Literal["chat", "generate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaWriter:
    """Builds the objects of one answer. `model` is the name that the client used."""

    model: str
    kind: Kind

    def piece(
        self,
        text: str = "",
        *,
        thinking: str = "",
        tool_calls: Sequence[ToolCall] = (),
        logprobs: Sequence[TokenLikelihood] = (),
    ) -> dict[str, Any]:
        gained = self._gained(text, thinking, tool_calls, logprobs)
        return {**self._head(), **gained, "done": False}

    def last(
        self,
        text: str = "",
        *,
        thinking: str = "",
        tool_calls: Sequence[ToolCall] = (),
        logprobs: Sequence[TokenLikelihood] = (),
        finish_reason: FinishReason,
        usage: Usage,
        first_s: float,
        total_s: float,
    ) -> dict[str, Any]:
        """Return the object that ends an answer; its first text came after `first_s`."""
        return {
            **self._head(),
            **self._gained(text, thinking, tool_calls, logprobs),
            "done": True,
            "done_reason": _DONE_REASONS[finish_reason],
            "total_duration": _nanoseconds(total_s),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(first_s),
            "eval_count": usage.completion_tokens,
            "eval_duration": _nanoseconds(total_s - first_s),
        }

    def loaded(self) -> dict[str, Any]:
        """Return the answer to a request without a question."""
        return {**self._head(), **self._gained("", "", (), ()), "done": True, "done_reason": "load"}

    def _head(self) -> dict[str, Any]:
        return {"model": self.model, "created_at": _time(datetime.now(UTC))}

    def _gained(
        self,
        text: str,
        thinking: str,
        tool_calls: Sequence[ToolCall],
        logprobs: Sequence[TokenLikelihood],
    ) -> dict[str, Any]:
        more: dict[str, Any] = {"thinking": thinking} if thinking else {}
        told: dict[str, Any] = {"logprobs": likelihoods(logprobs)} if logprobs else {}
        if self.kind == "generate":
            return {"response": text, **more, **told}
        if tool_calls:
            more["tool_calls"] = [_call(*numbered) for numbered in enumerate(tool_calls)]
        return {"message": {"role": "assistant", "content": text, **more}, **told}


def _call(index: int, call: ToolCall) -> dict[str, object]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"INVALID_JSON": call.arguments}
    return {
        "id": call.id,
        "function": {"index": index, "name": call.name, "arguments": arguments},
    }


def _nanoseconds(seconds: float) -> int:
    return round(max(seconds, 0.0) * 1e9)


def _time(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def tags_object(model: ServedModel | None, since: datetime) -> dict[str, object]:
    return {"models": [] if model is None else [_listed(model, since)]}


def running_object(model: ServedModel | None, since: datetime) -> dict[str, object]:
    if model is None:
        return {"models": []}
    listed = _listed(model, since)
    del listed["modified_at"]
    is_on_gpu = model.info.device.startswith("cuda")
    kept = {
        "size_vram": listed["size"] if is_on_gpu else 0,
        "context_length": model.info.max_model_len,
    }
    # It is never unloaded.
    return {"models": [{**listed, "expires_at": "2999-12-31T00:00:00Z", **kept}]}


def show_object(model: ServedModel) -> dict[str, object]:
    info = model.info
    family = info.prompt_format
    return {
        "modelfile": f"FROM {model.id}",
        "parameters": f"temperature {info.default_temperature:g}\ntop_p {info.default_top_p:g}",
        "template": "",
        "details": _details(model),
        "model_info": {
            "general.architecture": family,
            "general.basename": model.id,
            "general.parameter_count": info.num_parameters,
            f"{family}.context_length": info.max_model_len,
            f"{family}.vocab_size": info.vocab_size,
        },
        "capabilities": ["completion", *(["vision"] if info.image_policy else []), "tools"],
    }


def _listed(model: ServedModel, since: datetime) -> dict[str, object]:
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": _time(since),
        "size": model.info.weight_bytes,
        "digest": _digest(model),
        "details": _details(model),
    }


def _digest(model: ServedModel) -> str:
    """Return what tells this model from others; clients cut it, so it may not be short."""
    info = model.info
    identity = f"{info.model_id} {info.dtype} {info.num_parameters}"
    return hashlib.sha256(identity.encode()).hexdigest()


def _details(model: ServedModel) -> dict[str, object]:
    info = model.info
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": info.prompt_format,
        "families": [info.prompt_format],
        "parameter_size": _parameters(info.num_parameters),
        "quantization_level": info.dtype,
    }


def _parameters(number: int) -> str:
    return f"{number / 1e9:.1f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"
