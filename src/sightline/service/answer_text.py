"""From the tokens of one answer to the text that is shown.

    token ids -> characters -> without the model's decoration -> without stop strings

There is one such path, whether an answer is streamed or not.
"""

from collections.abc import Collection, Sequence

from sightline.service.detokenizer import Detokenizer
from sightline.service.formats.contract import AnswerFilter, Tokenizer
from sightline.service.stop_strings import StopStrings


class AsItIs:
    """The `AnswerFilter` of a text that is continued outside any dialogue."""

    def feed(self, text: str) -> str:
        return text


class AnswerText:
    """The text of one answer, and how many tokens it took.

    `num_tokens` counts every token up to the one that ended the answer, that one included, whether
    it is shown or not. Tokens after the end are not looked at, so the count does not depend on how
    many tokens come at once.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        answer_filter: AnswerFilter,
        *,
        stop: Sequence[str],
        stop_token_ids: Collection[int],
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer)
        self._filter = answer_filter
        self._stops = StopStrings(stop)
        self._stop_token_ids = frozenset(stop_token_ids)
        self.num_tokens = 0

    @property
    def is_stopped(self) -> bool:
        """A stop string is complete; the answer has ended."""
        return self._stops.matched is not None

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer."""
        return self._stops.matched

    def feed(self, token_ids: Sequence[int]) -> str:
        """Return the text that can be shown after these tokens."""
        pieces = []
        for token_id in token_ids:
            if self.is_stopped:
                break
            self.num_tokens += 1
            if token_id not in self._stop_token_ids:
                pieces.append(self._show(self._detokenizer.feed(token_id)))
        return "".join(pieces)

    def finish(self) -> str:
        """Return what was held back. The engine has no more tokens."""
        return self._show(self._detokenizer.finish()) + self._stops.finish()

    def _show(self, text: str) -> str:
        return self._stops.feed(self._filter.feed(text))
