"""The last requests and the last errors, in memory, for the page that shows them."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sightline.server.context import RequestContext
from sightline.service.request_log import timings
from sightline.service.transcript import Transcript

MAX_REQUESTS = 100
MAX_ERRORS = 50
# What the pages themselves ask all the time would hide everything else.
UNSEEN_PATHS = ("/input_tokens", "/count_tokens", "/pictures/preview")


@dataclass(slots=True)
class Seen:
    """One request. `status` is 0 while it runs; `started` is in seconds since the epoch."""

    context: RequestContext
    path: str
    transcript: Transcript | None
    started: float = field(default_factory=time.time)
    status: int = 0
    duration_s: float = 0.0

    def describe(self, *, reader: str | None) -> dict[str, object]:
        """Return the request as JSON; its content only to the key that sent it."""
        log: Mapping[str, object] = self.context.log
        described: dict[str, object] = {
            "id": self.context.request_id,
            "started": round(self.started, 3),
            "path": self.path,
            "status": self.status,
            "is_running": self.status == 0,
            "duration_s": round(self.duration_s or time.time() - self.started, 4),
            "model": log.get("model"),
            "error": log.get("error"),
            "prompt_tokens": _sum(log, "text_tokens", "image_tokens"),
            "image_tokens": log.get("image_tokens"),
            "cached_tokens": log.get("cached_tokens"),
            "completion_tokens": log.get("completion_tokens"),
            "timings": timings(log),
        }
        if self.transcript is not None and reader == self.context.key_id:
            described["content"] = {
                "messages": [
                    {"role": role, "text": text} for role, text in self.transcript.messages
                ],
                "answer": self.transcript.answer,
            }
        return described


class RecentRequests:
    """Remembers the last `MAX_REQUESTS` POSTs and `MAX_ERRORS` refusals.

    With `keeps_content`, also what was said in them.
    """

    def __init__(self, *, keeps_content: bool = False) -> None:
        self.keeps_content = keeps_content
        self._requests: deque[Seen] = deque(maxlen=MAX_REQUESTS)
        self._errors: deque[Seen] = deque(maxlen=MAX_ERRORS)

    def open(self, context: RequestContext, method: str, path: str) -> Seen:
        """Note that a request has come."""
        seen = Seen(context, path, Transcript() if self.keeps_content else None)
        if method == "POST" and not path.endswith(UNSEEN_PATHS):
            self._requests.append(seen)
        return seen

    def close(self, seen: Seen, status: int) -> None:
        """Note how it ended."""
        seen.status = status
        seen.duration_s = time.time() - seen.started
        if status >= 400 or (seen.context.log.get("error") and not seen.context.is_quiet):
            self._errors.append(seen)

    def requests(self, *, reader: str | None) -> list[dict[str, object]]:
        """Return the last requests, the latest first, as the key with the id `reader` sees them."""
        return [seen.describe(reader=reader) for seen in reversed(self._requests)]

    def errors(self) -> list[dict[str, object]]:
        return list(self._described_errors())

    def _described_errors(self) -> Iterator[dict[str, object]]:
        for seen in reversed(self._errors):
            yield {
                "id": seen.context.request_id,
                "time": round(seen.started, 3),
                "path": seen.path,
                "status": seen.status,
                "code": seen.context.log.get("error"),
            }


def _sum(log: Mapping[str, object], *names: str) -> int | None:
    values = [value for name in names if isinstance(value := log.get(name), int)]
    return sum(values) if values else None
