"""What the engine remembers of one request while it works on it. No torch here."""

from dataclasses import dataclass, field

from sightline.core.engine import FinishReason
from sightline.core.prompt import ImageSpan
from sightline.core.sampling import SamplingParams


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """A prompt and the answer that grows behind it.

    `slots` is what was reserved for it: the prompt and the longest possible answer.
    `num_computed` counts the prompt slots whose keys and values are in the cache; `answer` holds
    the sampled ids, of which all but the last are in the cache too. Times are of
    `time.monotonic`.
    """

    request_id: str
    prompt: tuple[int, ...] = field(repr=False)
    images: tuple[ImageSpan, ...] = field(repr=False)
    params: SamplingParams
    seed: int
    max_model_len: int
    arrived_at: float
    cache_salt: bytes = field(default=b"", repr=False)
    admitted_at: float | None = None
    encode_s: float = 0.0
    prefill_s: float = 0.0
    num_computed: int = 0
    answer: list[int] = field(default_factory=list, repr=False)

    @property
    def slots(self) -> int:
        return min(len(self.prompt) + self.params.max_tokens, self.max_model_len)

    @property
    def is_prefilled(self) -> bool:
        return self.num_computed == len(self.prompt)

    def finish_reason(self) -> FinishReason | None:
        """Say why the answer ends with its newest token, or None if it goes on."""
        if self.answer[-1] in self.params.stop_token_ids:
            return "stop"
        return "length" if len(self.answer) == self.slots - len(self.prompt) else None
