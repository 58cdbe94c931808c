"""An engine in this process that comes to its end by a bug."""

import asyncio
from collections.abc import Callable, Sequence
from threading import Event

import pytest

from sightline.backends.fake import FakeEngine
from sightline.backends.inline import InlineEngine
from sightline.core.engine import EngineInfo, EngineStats
from sightline.core.errors import InternalError
from sightline.core.prompt import Prompt
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput


class Broken:
    """Implements `inline.LocalEngine`; breaks as soon as something is asked of it."""

    def __init__(self) -> None:
        self.info: EngineInfo = FakeEngine().info
        self.stats = EngineStats()
        self._asked = Event()

    def submit(self, message: Generate, pixels: Sequence[bytes | memoryview] = ()) -> None:
        self._asked.set()

    def abort(self, request_id: str) -> None:
        pass

    def stop(self) -> None:
        self._asked.set()

    def run(self, deliver: Callable[[StepOutput], None]) -> None:
        self._asked.wait()
        self.stats = EngineStats(num_running=1, num_steps=3, kv_slots_used=16, kv_slots_total=64)
        raise ZeroDivisionError


def test_an_engine_that_broke_says_so_and_holds_nothing() -> None:
    async def main() -> None:
        engine = InlineEngine(lambda progress: Broken())
        await engine.start()
        answer = engine.generate(Prompt(token_ids=(1, 2)), SamplingParams(max_tokens=4), "r")
        with pytest.raises(InternalError):
            await anext(answer)
        assert not engine.is_ready
        assert await engine.stats() == EngineStats(num_steps=3)
        await engine.close()

    asyncio.run(main())
