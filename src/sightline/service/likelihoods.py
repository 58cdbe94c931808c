"""Which tokens' likelihoods are told: those whose text is shown, when it is shown."""

from collections import deque

from sightline.core.chat import TokenLikelihood


class ShownTokens:
    """Keeps likelihoods until the words that their tokens wrote are shown.

    A token stands for the words that were said when it came, or by the first later one that
    completes them: a character may take several tokens. A token whose first character falls to a
    stop string is never told, nor is one that said nothing.
    """

    def __init__(self) -> None:
        self._silent: list[TokenLikelihood] = []
        # (first character, character behind the last, token)
        self._said: deque[tuple[int, int, TokenLikelihood]] = deque()
        self._num_said = 0
        self._num_shown = 0

    def add(self, token: TokenLikelihood) -> None:
        """Take in a token before its text is judged."""
        self._silent.append(token)

    def say(self, num_characters: int) -> None:
        """The tokens since the last call have said so many characters."""
        start, self._num_said = self._num_said, self._num_said + num_characters
        self._said.extend((start, self._num_said, token) for token in self._silent)
        self._silent.clear()

    def drop(self) -> None:
        """The tokens since the last call have said nothing and never will."""
        self._silent.clear()

    def show(self, num_characters: int) -> None:
        """So many more of the characters that were said are shown."""
        self._num_shown += num_characters

    def take(self) -> tuple[TokenLikelihood, ...]:
        """Return the tokens all of whose characters are shown."""
        taken = []
        while self._said and self._said[0][1] <= self._num_shown:
            taken.append(self._said.popleft()[2])
        return tuple(taken)

    def finish(self) -> tuple[TokenLikelihood, ...]:
        """Return the tokens that are left and have a character that is shown."""
        return tuple(token for start, _, token in self._said if start < self._num_shown)
