"""From Ollama's API to `core.chat`, by way of a chat request: pure functions, no I/O."""

import json
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from sightline.core.chat import Notice
from sightline.core.errors import shorten
from sightline.server.intake import Terms
from sightline.server.ollama.schema import (
    OllamaChatBody,
    OllamaGenerateBody,
    OllamaMessageBody,
    OllamaSettings,
)
from sightline.server.openai.convert import ChatCall
from sightline.server.openai.fields import (
    check_number,
    invalid_value,
    note_others,
    unsupported,
)
from sightline.server.openai.schema import check_type, missing_parameter, wrong_type
from sightline.server.renames import Renames
from sightline.server.via_chat import judge_chat

LATEST = ":latest"
# Options that choose tokens, and their names in a chat request.
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
# Options of the machine, which the operator decides here.
_MACHINE = frozenset(
    {
        "num_ctx",
        "num_batch",
        "num_gpu",
        "num_keep",
        "num_thread",
        "main_gpu",
        "low_vram",
        "use_mmap",
        "use_mlock",
        "numa",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaCall:
    """`call` is None when nothing was asked: the client only wants the model to be loaded."""

    model: str
    call: ChatCall | None
    renames: Renames
    stream: bool
    notices: tuple[Notice, ...]


def to_ollama_chat(
    body: OllamaChatBody, terms: Terms, *, known: Collection[str], request_id: str
) -> OllamaCall:
    """Convert a typed request. Raises `RequestError` with the path of what is wrong.

    `known` are the names of the model.
    """
    chat = _Chat()
    for index, message in enumerate(body.messages):
        chat.add(message, f"messages[{index}]")
    fields = chat.settings(body)
    if body.tools is not None:
        fields["tools"] = body.tools
    return _judge(chat, body, fields, terms, known, request_id)


def to_ollama_generate(
    body: OllamaGenerateBody, terms: Terms, *, known: Collection[str], request_id: str
) -> OllamaCall:
    """Convert a typed request. Raises `RequestError` with the path of what is wrong."""
    for name in ("suffix", "template", "context"):
        if getattr(body, name):
            raise unsupported(name)
    if body.raw and (body.images or body.system):
        raise invalid_value("raw", "takes neither images nor system; send them without raw.")
    chat = _Chat()
    fields = chat.settings(body)
    if body.system:
        chat.messages.append({"role": "system", "content": body.system})
        chat.renames.add("messages[0]", "system")
    if body.prompt or body.images:
        at = f"messages[{len(chat.messages)}]"
        chat.messages.append({"role": "user", "content": chat.parts(at, body, "")})
        chat.renames.add(at, "prompt")
    else:
        chat.messages.clear()
    chat.renames.add("messages", "prompt")
    asked = _judge(chat, body, fields, terms, known, request_id)
    if asked.call is not None and body.raw:
        request = replace(asked.call.request, messages=(), raw_prompt=body.prompt)
        asked = replace(asked, call=replace(asked.call, request=request))
    return asked


def model_name(name: str, known: Collection[str]) -> str:
    """Return `name` without the tag that Ollama's clients add to names that have none."""
    return name if name in known else name.removesuffix(LATEST)


def _judge(
    chat: "_Chat",
    body: OllamaSettings,
    fields: dict[str, Any],
    terms: Terms,
    known: Collection[str],
    request_id: str,
) -> OllamaCall:
    for name, value in body.unknown.items():
        if value is not None:
            chat.notices.append(Notice(field=shorten(name), reason="unknown-field"))
    if body.top_logprobs is not None:  # wrong, whether or not it will be used
        most = terms.limits.max_top_logprobs
        check_number("top_logprobs", body.top_logprobs, 0, most, whole=True)
    model = model_name(body.model, known)
    call: ChatCall | None = None
    if chat.messages:
        call = judge_chat(
            {"model": model, "messages": chat.messages, **fields},
            chat.renames,
            terms,
            request_id=request_id,
            notices=chat.notices,
        )
        if chat.likeliest_only:
            call = replace(call, request=replace(call.request, top_k=1))
    return OllamaCall(
        model=model,
        call=call,
        renames=chat.renames,
        stream=body.stream is not False,
        notices=call.notices if call is not None else tuple(chat.notices),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(slots=True)
class _Chat:
    """The chat request that is being made.

    Ollama's calls need no ids: results answer them by id, by name, or in their order.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    renames: Renames = field(default_factory=Renames)
    likeliest_only: bool = False
    _open_calls: deque[tuple[str, str]] = field(default_factory=deque)

    def add(self, body: OllamaMessageBody, path: str) -> None:
        message: dict[str, Any] = {"role": body.role, "content": self.parts(path, body, path)}
        for name, value in body.unknown.items():
            if value is not None:
                self.notices.append(Notice(field=f"{path}.{shorten(name)}", reason="unknown-field"))
        if body.thinking:
            message["reasoning_content"] = body.thinking
        if body.tool_calls and body.role != "assistant":
            self.notices.append(Notice(field=f"{path}.tool_calls", reason="not-used"))
        elif body.tool_calls:
            message["tool_calls"] = [
                self._call(call, f"{path}.tool_calls[{index}]")
                for index, call in enumerate(body.tool_calls)
            ]
        if body.role == "tool":
            message["tool_call_id"] = self._answered(body, path)
        elif body.tool_call_id is not None:
            self.notices.append(Notice(field=f"{path}.tool_call_id", reason="not-used"))
        self.messages.append(message)

    def parts(
        self, at: str, body: OllamaMessageBody | OllamaGenerateBody, path: str
    ) -> list[dict[str, Any]] | str:
        """Return the content of the message at `at`, whose images stand below `path`."""
        text = body.prompt if isinstance(body, OllamaGenerateBody) else body.content
        if not body.images:
            return text or ""
        parts: list[dict[str, Any]] = []
        for index, image in enumerate(body.images):
            where = f"{path}.images[{index}]" if path else f"images[{index}]"
            self.renames.add(f"{at}.content[{index}]", where)
            self.renames.add(f"{at}.content[{index}].image_url", where)
            parts.append({"type": "image_url", "image_url": image})
        if text:
            parts.append({"type": "text", "text": text})
        return parts

    def settings(self, body: OllamaSettings) -> dict[str, Any]:
        """Return the settings of the request as fields of a chat request."""
        fields: dict[str, Any] = {}
        for name, value in (body.options or {}).items():
            if value is None:
                continue
            path = f"options.{shorten(name)}"
            if name == "top_p" and _is_number(value) and value == 0:
                self.likeliest_only = True  # of the likeliest tokens, no more than it takes
            elif name in _SAMPLING:
                fields[_SAMPLING[name]] = value
                self.renames.add(_SAMPLING[name], path)
            elif name == "num_predict":
                self.renames.add("max_tokens", path)
                if not _is_number(value) or value > 0:  # else as long as it will go
                    fields["max_tokens"] = value
            else:
                info = name in _MACHINE
                reason = "the-operator-decides" if info else "not-supported"
                self.notices.append(
                    Notice(field=path, reason=reason, severity="info" if info else "warn")
                )
        fields |= self._format(body.format) | self._think(body.think)
        if body.logprobs:
            fields |= {"logprobs": True, "top_logprobs": body.top_logprobs or 0}
        elif body.top_logprobs:
            self.notices.append(Notice(field="top_logprobs", reason="not-used"))
        if body.keep_alive is not None:
            self.notices.append(
                Notice(field="keep_alive", reason="the-operator-decides", severity="info")
            )
        return fields

    def _format(self, form: Any) -> dict[str, Any]:
        if form is None or form == "":
            return {}
        self.renames.add("response_format", "format")
        self.renames.add("response_format.json_schema", "format")
        self.renames.add("response_format.json_schema.schema", "format")
        if form == "json":
            return {"response_format": {"type": "json_object"}}
        if isinstance(form, dict):
            wrapped = {"name": "answer", "schema": form}
            return {"response_format": {"type": "json_schema", "json_schema": wrapped}}
        if isinstance(form, str):
            raise invalid_value("format", f"'{shorten(form)}' is neither 'json' nor a schema.")
        raise wrong_type("format", "string or object", form)

    def _think(self, think: Any) -> dict[str, Any]:
        if think is None:
            return {}
        if isinstance(think, bool):
            self.renames.add("enable_thinking", "think")
            return {"enable_thinking": think}
        if isinstance(think, str):
            self.renames.add("reasoning_effort", "think")
            return {"reasoning_effort": think}
        raise wrong_type("think", "boolean or string", think)

    def _call(self, call: dict[str, Any], path: str) -> dict[str, Any]:
        function = call.get("function")
        if not isinstance(function, dict):
            raise missing_parameter(f"{path}.function")
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str):
            raise missing_parameter(f"{path}.function.name")
        if not isinstance(arguments, dict | None):
            raise wrong_type(f"{path}.function.arguments", "object", arguments)
        check_type(call, "id", str, path)
        note_others(call, ("id", "type", "function"), path, self.notices)
        known = ("index", "name", "arguments")
        note_others(function, known, f"{path}.function", self.notices)
        call_id = call.get("id") or f"call_{len(self.messages)}_{len(self._open_calls)}"
        self._open_calls.append((call_id, name))
        written = json.dumps(arguments or {}, ensure_ascii=False)
        return {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": written},
        }

    def _answered(self, body: OllamaMessageBody, path: str) -> str:
        """Return the id of the call that a result answers: the first open one that fits.

        Raises `RequestError` if there is none.
        """
        name = body.tool_name
        for call in self._open_calls:
            if body.tool_call_id == call[0]:
                self._open_calls.remove(call)
                return call[0]
        if body.tool_call_id:  # clients may have ids of their own, which calls are sent without
            self.notices.append(Notice(field=f"{path}.tool_call_id", reason="not-used"))
        for call in self._open_calls:
            if name in (None, call[1]):
                self._open_calls.remove(call)
                return call[0]
        named = "" if name is None else f" of '{shorten(name)}'"
        raise invalid_value(
            f"{path}.tool_name", f"no call{named} comes before it that has no result yet."
        )
