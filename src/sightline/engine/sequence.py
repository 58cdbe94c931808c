"""What the engine remembers of one request while it works on it. No torch here."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any, Protocol

from sightline.core.engine import FinishReason
from sightline.core.prompt import ImageSpan
from sightline.core.sampling import SamplingParams
from sightline.engine.guesses import Guesses


class AnswerGrammar(Protocol):
    """What an answer must obey; `grammar.Grammar` is one. `mask` is what the sampler asks for."""

    def guess(self, answer: Items[int], found: tuple[int, ...], width: int) -> tuple[int, ...]: ...

    def prepare(self, answer: Items[int], guessed: tuple[int, ...] = ()) -> None: ...

    def mask(self, num_guessed: int = 0) -> Any: ...


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """A prompt and the answer that grows behind it.

    Slots are places in the KV cache, one per token. `blocks` hold the first slots in order;
    `num_computed` of them have been computed or are being computed by a step that was planned.
    `num_promised` tokens (0 or 1) come out of a step that has been planned but has not ended.
    `block_keys` are those of the full blocks of known tokens, as far as they were asked for;
    `num_settled` blocks have been offered to the prefix cache or come from it, and steps that have
    ended, or the cache, filled `num_filled` slots. `generation`
    changes when the blocks are given up, so that an old step's work is not mistaken for new;
    `is_ended` tells the same of the whole sequence. `copied_from` is somebody else's block that is
    held until the first slots of it have been copied, `copied_to` the first slot behind those, and
    `copied_key` what that block was known as.
    Times are of `time.monotonic`.
    """

    request_id: str
    prompt: tuple[int, ...] = field(repr=False)
    images: tuple[ImageSpan, ...] = field(repr=False)
    params: SamplingParams
    seed: int
    max_model_len: int
    arrived_at: float
    cache_salt: bytes = field(default=b"", repr=False)
    grammar: AnswerGrammar | None = field(default=None, repr=False)
    guesses: Guesses | None = field(default=None, repr=False)

    answer: list[int] = field(default_factory=list, repr=False)
    num_promised: int = 0
    num_computed: int = 0
    blocks: list[int] = field(default_factory=list, repr=False)
    block_keys: list[bytes] = field(default_factory=list, repr=False)
    num_settled: int = 0
    num_filled: int = 0
    copied_from: int | None = None
    copied_to: int = 0
    copied_key: bytes = field(default=b"", repr=False)
    generation: int = 0
    num_preemptions: int = 0
    leases: set[bytes] = field(default_factory=set, repr=False)
    # Prompt tokens that were found in the prefix cache at the first admission; None before it.
    num_cached: int | None = None
    admitted_at: float | None = None
    last_token_at: float | None = None
    encode_s: float = 0.0
    is_ended: bool = False

    # The longest that prompt and answer can become.
    max_slots: int = field(init=False)

    def __post_init__(self) -> None:
        self.max_slots = min(len(self.prompt) + self.params.max_tokens, self.max_model_len)

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and answer, the promised one included."""
        return len(self.prompt) + len(self.answer) + self.num_promised

    def token(self, slot: int) -> int:
        """Return the id in `slot`; it must be known."""
        num_prompt = len(self.prompt)
        return self.prompt[slot] if slot < num_prompt else self.answer[slot - num_prompt]

    def tokens(self, start: int, end: int) -> list[int]:
        """Return the ids of slots [start, end); all must be known."""
        num_prompt = len(self.prompt)
        if end <= num_prompt:
            return list(self.prompt[start:end])
        known = self.answer[max(0, start - num_prompt) : end - num_prompt]
        return [*self.prompt[start:], *known]

    def finish_reason(self) -> FinishReason | None:
        """Say why the answer ends with its newest token, or None if it goes on."""
        if self.answer[-1] in self.params.stop_token_ids:
            return "stop"
        return "length" if len(self.prompt) + len(self.answer) >= self.max_slots else None
