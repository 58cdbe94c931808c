"""How the engine picks the next token, per request."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Settings of one sequence. Bounds are checked at the edge, not here.

    `temperature` 0 is greedy. `top_k` 0 and `min_p` 0 are off. `repetition_penalty` looks at the
    prompt and the answer, the other two penalties at the answer only. `logit_bias` pairs a token
    id with what is added to its score. `logprobs` None means that nobody asked; otherwise it is
    the number of alternatives wanted beside each token. `seed` None means a fresh random state;
    with a seed the same prompt gives the same tokens whatever else the engine is doing.
    `grammar` is a grammar in llguidance's JSON form that the whole answer must obey.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    grammar: str | None = field(default=None, repr=False)
