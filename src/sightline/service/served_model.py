"""The model as clients see it: the name it answers with, and the names it answers to."""

from collections.abc import Sequence
from dataclasses import dataclass

from sightline.core.engine import EngineInfo
from sightline.core.errors import RequestError, shorten

MAX_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """`id` is what answers carry in `model`; a request may also use one of `aliases`."""

    id: str
    aliases: tuple[str, ...]
    info: EngineInfo

    @property
    def names(self) -> tuple[str, ...]:
        """All names that a request may use, the real one first."""
        return (self.id, *self.aliases)

    @classmethod
    def of(
        cls, info: EngineInfo, *, served_name: str | None, aliases: Sequence[str]
    ) -> "ServedModel":
        """Describe the model of `info`; `served_name`, if given, takes the place of its id."""
        model_id = served_name or info.model_id
        names = dict.fromkeys((*info.aliases, *aliases))
        return cls(id=model_id, aliases=tuple(n for n in names if n != model_id), info=info)

    def require_name(self, name: str) -> None:
        """Raise `RequestError` (`model_not_found`) unless the model answers to `name`."""
        if name in self.names:
            return
        available = ", ".join(shorten(n) for n in self.names[:MAX_NAMES_SHOWN])
        raise RequestError(
            f"The model '{shorten(name)}' does not exist. Available: {available}.",
            code="model_not_found",
            param="model",
        )
