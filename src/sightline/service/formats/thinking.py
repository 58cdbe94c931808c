"""Thoughts that stand before an answer, between `<think>` and `</think>`."""

from collections.abc import Iterable, Iterator

from sightline.service.formats.contract import AnswerParser, Event, Thought
from sightline.service.formats.scan import held_length

OPEN, CLOSE = "<think>", "</think>"


class ThinkingAnswer:
    """Tells the thoughts of an answer apart and gives the rest to `rest`.

    Only what opens the answer counts; later on `<think>` is text. Blanks before the first tag go
    to `rest`, those behind a tag to nobody. With `is_open` the prompt has written the first tag.
    """

    def __init__(self, rest: AnswerParser, *, is_open: bool = False) -> None:
        self._rest = rest
        self._held = ""
        self._state = "thinking" if is_open else "opening"
        self._has_begun = False

    @property
    def is_holding(self) -> bool:
        return (self._state == "opening" and bool(self._held)) or self._rest.is_holding

    def feed(self, text: str) -> Iterator[Event]:
        if self._state == "opening":
            opening = self._held + text
            if not self._held and (blanks := text[: len(text) - len(text.lstrip())]):
                opening = text.lstrip()
                yield from self._rest.feed(blanks)
            if opening.startswith(OPEN):
                self._state, self._held, text = "thinking", "", opening[len(OPEN) :]
            elif OPEN.startswith(opening):
                self._held = opening
                return
            else:
                self._state, self._held, text = "answer", "", opening
        if self._state == "thinking":
            thought, closed, text = (self._held + text).partition(CLOSE)
            if closed:
                self._state, self._held = "closing", ""
                yield from self._think(thought.rstrip())
            else:
                kept = len(thought) - held_length(thought, CLOSE)
                kept = len(thought[:kept].rstrip())
                self._held = thought[kept:]
                yield from self._think(thought[:kept])
                return
        if self._state == "closing":
            text = text.lstrip()
            if not text:
                return
            self._state = "answer"
        yield from self._rest.feed(text)

    def control(self, token_id: int) -> Iterable[Event]:
        return self._rest.control(token_id)

    def finish(self, *, cut: bool) -> Iterator[Event]:
        held, self._held = self._held, ""
        if self._state == "thinking":
            yield from self._think(held.rstrip())
        elif held:
            yield from self._rest.feed(held)
        yield from self._rest.finish(cut=cut)

    def _think(self, text: str) -> Iterator[Event]:
        if not self._has_begun:
            text = text.lstrip()
        if text:
            self._has_begun = True
            yield Thought(text)
