"""Grammars: which tokens may come next, computed beside the model and never before it.

A request with a grammar enters the schedule when that is compiled. From then on the mask for its
next token is computed by a thread while the model computes the logits that it is for, so a step
waits for a mask only if that takes longer than the model. Where a grammar leaves only one way to
go on, its tokens are guessed, and each gets its mask (see `guesses`).
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from sightline.core.grammar_limits import GRAMMAR_LIMITS
from sightline.core.limits import KIB, MIB

if TYPE_CHECKING:  # an engine loads it beside its weights, and one without grammars not at all
    from llguidance import LLMatcher, LLTokenizer

CACHE_BYTES = 64 * MIB
# What a compiled grammar weighs, measured generously: a part that is always there, and a multiple
# of its text.
BASE_BYTES, BYTES_PER_CHARACTER = 256 * KIB, 64
NUM_COMPILERS = 2
# Looking what a grammar leads to takes microseconds; of one that takes so long nothing is guessed.
SLOW_GUESS_S = 0.002
TOO_COMPLEX = ("ParserTooComplex", "LexerTooComplex")
DEAD_END = "NoExtensionBias"
LIMIT = re.compile(r"max is|too many|too complex|limit|fuel")


class GrammarError(Exception):
    """A grammar that cannot be compiled, or that does not go on from an answer's tokens."""


class GrammarTooComplex(GrammarError):
    """A grammar that compiles, but leads to more cases than are looked at."""


class GrammarDeadEnd(GrammarError):
    """A grammar that compiles, but leads to where nothing can be said."""


class Vocabulary(Protocol):
    """What is needed of a tokenizer."""

    @property
    def num_tokens(self) -> int: ...

    @property
    def special_tokens(self) -> "dict[str, int]": ...

    def encode(self, text: str) -> list[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...


class Grammars:
    """Compiles grammars for one vocabulary and keeps the last ones."""

    def __init__(self, vocabulary: Vocabulary, stop_token_ids: Sequence[int], *, num_threads: int):
        self._num_tokens = vocabulary.num_tokens
        self._compilers = ThreadPoolExecutor(NUM_COMPILERS, thread_name_prefix="grammar")
        # Takes up to a second, and nobody waits for it but the first grammar.
        self._tokenizer = self._compilers.submit(_tokenizer, vocabulary, stop_token_ids)
        self._masks = ThreadPoolExecutor(num_threads, thread_name_prefix="mask")
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """What the kept grammars weigh, as far as that is known."""
        return self._num_bytes

    def compile(self, grammar: str, then: Callable[["Grammar | Exception"], None]) -> None:
        """Compile on another thread and call `then` there, with the grammar or what went wrong."""

        def work() -> None:
            try:
                result: Grammar | Exception = self.open(grammar)
            except Exception as error:
                result = error
            then(result)

        self._compilers.submit(work)

    def open(self, grammar: str) -> "Grammar":
        """Return `grammar` at its beginning. Raises `GrammarError`."""
        with self._lock:
            matcher = self._compiled.get(grammar)
            if matcher is not None:
                self._compiled.move_to_end(grammar)
        if matcher is None:
            tokenizer = self._tokenizer.result()
            matcher = _matcher(tokenizer, grammar)
            if matcher.is_error():
                raise GrammarError(matcher.get_error())
            self._keep(grammar, matcher)
        return Grammar(matcher.deep_copy(), self._masks, self._num_tokens)

    def _keep(self, grammar: str, matcher: "LLMatcher") -> None:
        with self._lock:
            if grammar not in self._compiled:
                self._compiled[grammar] = matcher
                self._num_bytes += _weight(grammar)
            while self._num_bytes > CACHE_BYTES and len(self._compiled) > 1:
                dropped, _ = self._compiled.popitem(last=False)
                self._num_bytes -= _weight(dropped)


class Grammar:
    """The grammar of one answer, a `sampler.MaskProvider`. It follows the answer as it grows."""

    def __init__(self, matcher: "LLMatcher", pool: ThreadPoolExecutor, num_tokens: int) -> None:
        self._matcher = matcher
        self._pool = pool
        self._num_tokens = num_tokens
        self._num_consumed = 0
        self._prepared: tuple[int, tuple[int, ...]] | None = None
        self._masks: Future[list[Tensor]] | None = None
        self._is_slow = False

    def guess(self, answer: Sequence[int], found: tuple[int, ...], width: int) -> tuple[int, ...]:
        """Return up to `width` tokens that must follow `answer`, or what of `found` may follow it.

        Others wait for this: of a grammar for which it takes long nothing is guessed any more.
        """
        if self._is_slow:
            return ()
        if self._masks is not None:
            wait([self._masks])  # of a step that failed
        began = time.thread_time()  # not by the clock: a busy neighbour says nothing of a grammar
        guessed: Sequence[int] = ()
        if self._consume(answer):
            guessed = self._matcher.compute_ff_tokens()[:width]
            if not guessed and found:
                guessed = found[: self._matcher.validate_tokens(list(found))]
        self._is_slow = time.thread_time() - began > SLOW_GUESS_S
        return tuple(guessed)

    def prepare(self, answer: Sequence[int], guessed: tuple[int, ...] = ()) -> None:
        """Begin to compute the masks behind `answer` and each guess, unless that was begun.

        `answer` begins with that of the last call; the masks of that were waited for.
        """
        if self._prepared != (len(answer), guessed):
            if self._masks is not None:
                wait([self._masks])
            self._prepared = (len(answer), guessed)
            self._masks = self._pool.submit(self._advance, list(answer), guessed)

    def mask(self, num_guessed: int = 0) -> Tensor:
        """Return the mask behind so many guesses; any, if one of those is against the grammar."""
        assert self._masks is not None, "prepared before the step"
        masks = self._masks.result()
        return masks[min(num_guessed, len(masks) - 1)]

    def _consume(self, answer: Sequence[int]) -> bool:
        """Follow `answer`; False if the grammar does not."""
        gained = list(answer[self._num_consumed :])
        self._num_consumed = len(answer)
        return not gained or self._matcher.consume_tokens(gained)

    def _advance(self, answer: list[int], guessed: tuple[int, ...]) -> list[Tensor]:
        if not self._consume(answer):
            raise self._error()
        masks = [self._allowed()]
        for token_id in guessed:
            if not self._matcher.try_consume_tokens([token_id]):
                break
            masks.append(self._allowed())
        if len(masks) > 1:
            self._matcher.rollback(len(masks) - 1)
        return masks

    def _allowed(self) -> Tensor:
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise self._error()
        bits = np.unpackbits(packed, bitorder="little")[: self._num_tokens]
        return torch.from_numpy(bits.view(np.bool_))

    def _error(self) -> GrammarError:
        text = self._matcher.get_error()
        if text.startswith(DEAD_END):
            return GrammarDeadEnd(text)
        is_limit = self._matcher.stop_reason() in TOO_COMPLEX or LIMIT.search(text)
        return GrammarTooComplex(text) if is_limit else GrammarError(text)


def _weight(grammar: str) -> int:
    return BASE_BYTES + BYTES_PER_CHARACTER * len(grammar)


def _tokenizer(vocabulary: Vocabulary, stop_token_ids: Sequence[int]) -> "LLTokenizer":
    from llguidance import LLTokenizer, TokenizerWrapper

    known = [token_id for token_id in stop_token_ids if token_id < vocabulary.num_tokens]
    wrapper = TokenizerWrapper(_Tokens(vocabulary, known[0]))
    return LLTokenizer(wrapper, n_vocab=vocabulary.num_tokens, eos_token=known)


def _matcher(tokenizer: "LLTokenizer", grammar: str) -> "LLMatcher":
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(**GRAMMAR_LIMITS)
    return LLMatcher(tokenizer, grammar, log_level=0, limits=limits)


class _Tokens:
    """A vocabulary as llguidance wants it. An id without bytes is a token that no text can be."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, eos_token_id: int) -> None:
        names = {token_id: name for name, token_id in vocabulary.special_tokens.items()}
        self.eos_token_id = eos_token_id
        self.tokens = []
        self.special_token_ids = []
        for token_id in range(vocabulary.num_tokens):
            raw = vocabulary.token_bytes(token_id)
            if not raw:
                self.special_token_ids.append(token_id)
                raw = names.get(token_id, f"<|unused {token_id}|>").encode()
            self.tokens.append(raw)
        self._vocabulary = vocabulary

    def __call__(self, text: bytes | str) -> list[int]:
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return self._vocabulary.encode(plain)
