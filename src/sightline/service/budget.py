"""How the context window is shared between the prompt and the answer."""

from dataclasses import dataclass

from sightline.core.chat import Notice
from sightline.core.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """What a prompt costs, in slots of the context window."""

    text: int
    image: int = 0

    @property
    def total(self) -> int:
        return self.text + self.image


def require_room(counts: TokenCounts, *, window: int, at_least: bool = False) -> None:
    """Raise `RequestError` (`context_length_exceeded`) unless a token of the answer fits, too.

    `at_least` says that `counts.text` is a lower bound.
    """
    if counts.total < window:
        return
    bound = "at least " if at_least else ""
    raise RequestError(
        f"This model's maximum context length is {window} tokens. However, your messages "
        f"resulted in {bound}{counts.total} tokens ({counts.text} text, {counts.image} image). "
        "The prompt is too long.",  # the words by which LangChain knows
        code="context_length_exceeded",
        param="messages",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBudget:
    """How many tokens an answer may have; a notice when that is fewer than were asked for."""

    max_tokens: int
    notices: tuple[Notice, ...] = ()


def budget_answer(
    asked: int | None,
    counts: TokenCounts,
    *,
    window: int,
    default: int,
    param: str = "max_tokens",
) -> AnswerBudget:
    """Return what is left of the window: at most `asked`, or `default` when nothing was asked.

    `param` is the name of the field that asked.
    """
    rest = window - counts.total
    if asked is None:
        return AnswerBudget(max_tokens=min(rest, default))
    if asked <= rest:
        return AnswerBudget(max_tokens=asked)
    notice = Notice(field=param, reason=f"lowered-to-{rest}", severity="warn")
    return AnswerBudget(max_tokens=rest, notices=(notice,))
