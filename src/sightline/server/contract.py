"""What the HTTP surface asks of the service behind it; `ChatService` is all of it."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from sightline.core.chat import ChatDelta, ChatRequest, ImageReport, Notice
from sightline.core.engine import EngineStats
from sightline.core.prompt import Image
from sightline.service.budget import TokenCounts
from sightline.service.chat import Measure
from sightline.service.engine_metrics import QueueNumbers
from sightline.service.metrics import Metrics
from sightline.service.prompt_maker import PromptMaker
from sightline.service.request_log import Facts
from sightline.service.served_model import ServedModel


class Answer(Protocol):
    """A started answer. Iterating yields its deltas, `aclose` ends it within one engine step."""

    @property
    def model(self) -> str: ...

    @property
    def counts(self) -> TokenCounts: ...

    @property
    def notices(self) -> Sequence[Notice]: ...

    @property
    def images(self) -> Sequence[ImageReport]: ...

    def __aiter__(self) -> AsyncIterator[ChatDelta]: ...

    async def aclose(self) -> None: ...


class Asked(Protocol):
    """What takes requests. `start` returns once the first delta is there, so refusals come before.

    What a request costs is noted in `facts`, for the access line. `measure` counts a prompt
    without working on it.
    """

    async def start(
        self, request: ChatRequest, *, streaming: bool = False, facts: Facts | None = None
    ) -> Answer: ...

    async def measure(self, request: ChatRequest) -> Measure: ...


class Chat(Asked, Protocol):
    """The service.

    `model` raises `Unavailable` (`model_loading`) until the model has been loaded once. `preview`
    returns the pictures of a request as the model would see them.
    """

    @property
    def model(self) -> ServedModel: ...

    @property
    def is_ready(self) -> bool: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def queue_numbers(self) -> QueueNumbers: ...

    async def engine_stats(self) -> EngineStats: ...

    async def preview(self, request: ChatRequest) -> Sequence[tuple[Image, ImageReport]]: ...

    async def vocabulary(self) -> PromptMaker: ...
