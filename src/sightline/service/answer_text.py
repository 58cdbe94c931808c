"""From the tokens of one answer to what is shown of it.

    token ids -> characters -> words, thoughts, calls -> words without stop strings

There is one such path, whether an answer is streamed or not.
"""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from sightline.core.chat import TokenLikelihood, ToolCallDelta
from sightline.service.detokenizer import Detokenizer
from sightline.service.formats.contract import (
    AnswerParser,
    Called,
    Event,
    Said,
    Thought,
    Tokenizer,
)
from sightline.service.likelihoods import ShownTokens
from sightline.service.stop_strings import StopStrings


@dataclass(slots=True)
class Shown:
    """What an answer gained, ready to be shown."""

    text: str = field(default="", repr=False)
    reasoning: str = field(default="", repr=False)
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLikelihood, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.tool_calls or self.logprobs)

    def __add__(self, other: "Shown") -> "Shown":
        return Shown(
            self.text + other.text,
            self.reasoning + other.reasoning,
            self.tool_calls + other.tool_calls,
            self.logprobs + other.logprobs,
        )


class AnswerText:
    """The text of one answer, and how many tokens it took.

    `num_tokens` counts every token up to the one that ended the answer, that one included, whether
    it is shown or not; `num_reasoning_tokens` those of them that were thoughts. Tokens after the
    end are not looked at, so the counts do not depend on how many tokens come at once. Stop
    strings are looked for in the words only, not in thoughts and calls.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        parser: AnswerParser,
        *,
        stop: Sequence[str],
        stop_token_ids: Collection[int],
    ) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = Detokenizer(tokenizer)
        self._parser = parser
        self._stops = StopStrings(stop)
        self._stop_token_ids = frozenset(stop_token_ids)
        self._likelihoods = ShownTokens()
        self._tells_likelihoods = False
        self.num_tokens = 0
        self.num_reasoning_tokens = 0
        self.num_calls = 0

    @property
    def is_stopped(self) -> bool:
        """A stop string is complete; the answer has ended."""
        return self._stops.matched is not None

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.matched

    def feed(self, token_ids: Sequence[int], likelihoods: Sequence[TokenLikelihood] = ()) -> Shown:
        """Return what can be shown after these tokens.

        `likelihoods` has one entry for each token, or none.
        """
        shown = Shown()
        for position, token_id in enumerate(token_ids):
            if self.is_stopped:
                break
            self.num_tokens += 1
            if token_id in self._stop_token_ids:
                continue
            if likelihoods:
                self._tells_likelihoods = True
                self._likelihoods.add(likelihoods[position])
            gained = self._read(token_id)
            if gained.reasoning:
                self.num_reasoning_tokens += 1
            shown = shown + gained if shown else gained
        return shown

    def finish(self, *, cut: bool = False) -> Shown:
        """Return what was held back. The engine has no more tokens; `cut`: it was not done."""
        shown = self._take(self._parser.feed(self._detokenizer.finish()))
        shown += self._take(self._parser.finish(cut=cut))
        rest = self._stops.finish()
        self._likelihoods.show(len(rest))
        return shown + Shown(text=rest, logprobs=self._likelihoods.finish())

    def _read(self, token_id: int) -> Shown:
        if self._tokenizer.token_bytes(token_id):
            return self._take(self._parser.feed(self._detokenizer.feed(token_id)))
        before = self._take(self._parser.feed(self._detokenizer.finish()))
        return before + self._take(self._parser.control(token_id))

    def _take(self, events: Iterable[Event]) -> Shown:
        shown = Shown()
        num_said = 0
        for event in events:
            match event:
                case Said(text):
                    num_said += len(text)
                    shown.text += self._stops.feed(text)
                case Thought(text):
                    shown.reasoning += text
                case Called():
                    shown.tool_calls += (self._call(event),)
        if self._tells_likelihoods:
            shown.logprobs = self._likelihoods_of(num_said, num_shown=len(shown.text))
        return shown

    def _likelihoods_of(self, num_said: int, *, num_shown: int) -> tuple[TokenLikelihood, ...]:
        if num_said:
            self._likelihoods.say(num_said)
        elif not self._parser.is_holding and not self._detokenizer.is_holding:
            self._likelihoods.drop()
        self._likelihoods.show(num_shown)
        return self._likelihoods.take()

    def _call(self, event: Called) -> ToolCallDelta:
        if event.name is None:
            return ToolCallDelta(index=self.num_calls - 1, arguments=event.arguments)
        self.num_calls += 1
        return ToolCallDelta(
            index=self.num_calls - 1,
            id=f"call_{uuid.uuid4().hex[:24]}",
            name=event.name,
            arguments=event.arguments,
        )
