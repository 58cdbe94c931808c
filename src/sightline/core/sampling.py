"""How the engine picks the next token, per request."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Settings of one sequence. Bounds are checked at the edge, not here.

    `temperature` 0 is greedy. `seed` None means a fresh random state; with a seed the same
    prompt gives the same tokens whatever else the engine is doing.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
