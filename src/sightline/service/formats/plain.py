"""Answers that are nothing but text."""

from collections.abc import Iterable

from sightline.service.formats.contract import Event, Said


class PlainAnswer:
    """The `AnswerParser` of a text that is said as it is."""

    is_holding = False

    def feed(self, text: str) -> Iterable[Event]:
        return (Said(text),) if text else ()

    def control(self, token_id: int) -> Iterable[Event]:
        return ()

    def finish(self, *, cut: bool) -> Iterable[Event]:
        return ()
