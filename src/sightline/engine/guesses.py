"""Guessing how an answer goes on, from what was said before. No torch here.

A step costs nearly the same for one token of an answer as for a few: the weights have to be read
either way. So where the newest tokens stand somewhere before, in the prompt or in the answer, the
tokens behind that place are computed along with the newest one, and those that turn out to be
what would have been said are kept. A row's result does not depend on the rows beside it, so a
guess can only change how soon an answer is there, never what it says.

The idea is known as prompt lookup: Yang et al. 2023, "Inference with Reference", arXiv 2304.04487.
"""

from array import array
from collections.abc import Sequence

# So many newest tokens must stand somewhere before.
NUM_EQUAL = 3
# What is guessed first; from then on it goes by how good the guesses were.
FIRST_WIDTH = 3
# After guesses that were all wrong nothing is guessed for some tokens, longer each time.
LEAST_PAUSE, LONGEST_PAUSE = 16, 256
SIZE = array("I").itemsize


class Guesses:
    """What is guessed of one answer, at most `limit` tokens at once."""

    def __init__(self, prompt: Sequence[int], limit: int) -> None:
        self._said = bytearray(array("I", prompt).tobytes())
        self._num_prompt = len(prompt)
        self._limit = limit
        self._width = min(FIRST_WIDTH, limit)
        self._pause = LEAST_PAUSE
        self._silent_until = 0

    def width(self, num_said: int) -> int:
        """Return how many tokens to guess behind an answer of `num_said` tokens."""
        return 0 if num_said < self._silent_until else self._width

    def after(self, answer: Sequence[int], width: int) -> tuple[int, ...]:
        """Return `width` tokens that may follow `answer`, or none; it only grows from call to call.

        They are what followed the last place where its newest tokens stood; where that place runs
        into the end, it is taken to go round.
        """
        num_known = len(self._said) // SIZE - self._num_prompt
        self._said += array("I", answer[num_known:]).tobytes()
        place = self._find()
        if place is None:
            return ()
        known = array("I")
        known.frombytes(self._said[place * SIZE : (place + width) * SIZE])
        guessed = list(known)
        while len(guessed) < width:
            guessed.append(guessed[len(guessed) - len(known)])
        return tuple(guessed)

    def learn(self, num_guessed: int, num_right: int, num_said: int) -> None:
        """Note how many of the last guesses were right; the answer has `num_said` tokens now."""
        if num_right == num_guessed:
            self._width = min(self._limit, max(self._width, 2 * num_guessed + 1))
        else:
            self._width = min(self._limit, num_right + 1)
        if num_right:
            self._pause = LEAST_PAUSE
        elif num_guessed == 1:
            self._silent_until = num_said + self._pause
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def _find(self) -> int | None:
        """Return behind which token the newest ones stood before, the last time they did."""
        said = self._said
        newest = bytes(said[-NUM_EQUAL * SIZE :])
        if len(newest) < NUM_EQUAL * SIZE:
            return None
        end = len(said) - SIZE
        while (start := said.rfind(newest, 0, end)) >= 0:
            if start % SIZE == 0:
                return start // SIZE + NUM_EQUAL
            end = start + len(newest) - 1  # bytes of two tokens: no place
        return None
