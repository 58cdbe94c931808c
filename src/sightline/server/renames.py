"""One dialect's names for what another dialect's body holds.

A body that was put into the words of a chat request is judged by the rules of chat requests, once
for all dialects. Whatever these say is said to the client in its own words: under the paths of the
body that it sent.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from sightline.core.chat import ChatRequest, ImagePart, Message, Notice
from sightline.core.errors import RequestError

_STEP = re.compile(r"\.[^.\[\]]+$|\[\d+\]$")


@dataclass(slots=True)
class Renames:
    """Paths of a chat request, and what stands there in the client's body."""

    names: dict[str, str] = field(default_factory=dict)

    def add(self, chat_path: str, path: str) -> None:
        self.names[chat_path] = path

    def of(self, chat_path: str) -> str:
        """Return the client's path: that of the longest beginning that has a name."""
        beginning = chat_path
        while beginning:
            if beginning in self.names:
                return self.names[beginning] + chat_path[len(beginning) :]
            step = _STEP.search(beginning)
            if step is None:
                break
            beginning = beginning[: step.start()]
        return chat_path

    def notices(self, notices: Sequence[Notice]) -> tuple[Notice, ...]:
        return tuple(replace(notice, field=self.of(notice.field)) for notice in notices)

    def request(self, request: ChatRequest) -> ChatRequest:
        """Return `request` with the client's paths wherever errors or notices take them from."""
        return replace(
            request,
            messages=tuple(self._message(message) for message in request.messages),
            max_tokens_param=self.of(request.max_tokens_param),
            thinking_params=tuple(map(self.of, request.thinking_params)),
        )

    def _message(self, message: Message) -> Message:
        if not message.images:
            return message
        parts = (
            self._image(part) if isinstance(part, ImagePart) else part for part in message.parts
        )
        return replace(message, parts=tuple(parts))

    def _image(self, part: ImagePart) -> ImagePart:
        bounds, detail = part.bounds, part.detail
        if bounds is not None:
            bounds = replace(bounds, param=self.of(bounds.param))
        if detail is not None:
            detail = replace(detail, param=self.of(detail.param))
        return replace(part, param=self.of(part.param), bounds=bounds, detail=detail)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give a `RequestError` that leaves the block the client's path, in its text, too."""
        try:
            yield
        except RequestError as error:
            if error.param is None or (path := self.of(error.param)) == error.param:
                raise
            message = error.message.replace(error.param, path)
            place, colon, rest = message.partition(":")
            if place != path:  # it is what the path leads into, or no path
                message = self.of(place) + colon + rest
            raise RequestError(message, code=error.code, param=path) from None
