"""The model as clients see it: the name it answers with, and the names it answers to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sightline.core.engine import EngineInfo
from sightline.core.errors import RequestError, shorten
from sightline.service.caller import may_use
from sightline.service.pixel_bounds import heeded_low_detail

MAX_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """`id` is what answers carry in `model`; a request may also use one of `aliases`.

    `low_detail_pixels` is the most that the model sees of a picture sent with `detail: low`; None:
    as many as of any other.
    """

    id: str
    aliases: tuple[str, ...]
    info: EngineInfo
    low_detail_pixels: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """All names that a request may use, the real one first."""
        return (self.id, *self.aliases)

    @classmethod
    def of(
        cls,
        info: EngineInfo,
        *,
        served_name: str | None,
        aliases: Sequence[str],
        low_detail_pixels: int | None = None,
    ) -> "ServedModel":
        """Describe the model of `info`; `served_name`, if given, takes the place of its id.

        `low_detail_pixels` is kept as far as the model can heed it.
        """
        model_id = served_name or info.model_id
        names = dict.fromkeys((*info.aliases, *aliases))
        return cls(
            id=model_id,
            aliases=tuple(n for n in names if n != model_id),
            info=info,
            low_detail_pixels=heeded_low_detail(low_detail_pixels, info.image_policy),
        )

    def for_caller(self) -> "ServedModel | None":
        """Return the model by those of its names that the caller may use; None without any."""
        allowed = [name for name in self.names if may_use(name)]
        return replace(self, id=allowed[0], aliases=tuple(allowed[1:])) if allowed else None

    def require_name(self, name: str) -> None:
        """Raise `RequestError` (`model_not_found`) unless the model answers to `name`.

        Its text tells names that the caller may use.
        """
        if name in self.names:
            return
        allowed = [shorten(n) for n in self.names if may_use(n)][:MAX_NAMES_SHOWN]
        available = f" Available: {', '.join(allowed)}." if allowed else ""
        raise RequestError(
            f"The model '{shorten(name)}' does not exist.{available}",
            code="model_not_found",
            param="model",
        )
