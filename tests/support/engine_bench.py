"""An engine of the tiny model in this process, and what was asked of it and what it said."""

import threading
from collections import defaultdict
from collections.abc import Callable

from sightline.backends.fake import TOKENIZER_FILE
from sightline.core.engine import TokenLogprobs
from sightline.core.engine_options import EngineOptions
from sightline.core.sampling import SamplingParams
from sightline.core.wire import Generate, StepOutput, WireSpan
from sightline.engine.build import assemble_engine
from sightline.engine.grammar import Grammars
from sightline.engine.loop import EngineLoop
from sightline.models.loading import LoadedModel

# A folder with the tiny model's tokenizer; its weights are loaded apart.
MODEL = str(TOKENIZER_FILE.parent)
NUM_TOKENS = 270
PATIENCE_S = 110  # a busy machine takes its time
IMAGE_TOKENS, IMAGE_SIZE = 18, 112
DEFAULTS: dict[str, object] = {"max_num_batched_tokens": 16}


class Bench:
    """A loop on its own thread, and everything that it has said."""

    def __init__(self, loop: EngineLoop) -> None:
        self.loop = loop
        self.outputs: list[StepOutput] = []
        self.tokens: dict[str, list[int]] = defaultdict(list)
        self.logprobs: dict[str, list[TokenLogprobs]] = defaultdict(list)
        self.cached: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self.steps: dict[str, list[int]] = defaultdict(list)
        self.noted: list[tuple[str, ...]] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(
            target=loop.run, args=(self._deliver, lambda ids: self.noted.append(tuple(ids)))
        )

    def __enter__(self) -> "Bench":
        self._thread.start()
        with self._news:
            self._await(lambda: bool(self.outputs), lambda: "the first output")
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.stop()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the loop did not stop within 30 s"

    def wait(self, *request_ids: str) -> list[list[int]]:
        """Return the tokens of these requests, once all of them have ended."""
        with self._news:
            missing = lambda: {*request_ids} - self.reasons.keys()  # noqa: E731
            self._await(lambda: not missing(), lambda: f"the end of {sorted(missing())}")
        return [self.tokens[request_id] for request_id in request_ids]

    def wait_for_tokens(self, request_id: str, number: int) -> None:
        with self._news:
            self._await(
                lambda: len(self.tokens[request_id]) >= number,
                lambda: (
                    f"{number} tokens of {request_id}, which has {len(self.tokens[request_id])}"
                ),
            )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait for something that comes true with a step; it is looked at after every output."""
        with self._news:
            while not condition():
                num_outputs = len(self.outputs)
                self._await(lambda seen=num_outputs: len(self.outputs) > seen, lambda: "an output")  # type: ignore[misc]

    def wait_until_idle(self) -> StepOutput:
        def idle() -> bool:
            stats = self.outputs[-1].stats
            return stats.num_running == stats.num_waiting == 0

        with self._news:
            self._await(idle, lambda: "an idle engine")
            return self.outputs[-1]

    def _await(self, condition: Callable[[], bool], wanted: Callable[[], str]) -> None:
        """Wait, and if patience ends say for what, and what the engine said last."""
        if not self._news.wait_for(condition, timeout=PATIENCE_S):
            last = self.outputs[-1].stats if self.outputs else None
            raise AssertionError(f"waited {PATIENCE_S} s for {wanted()}; last heard: {last}")

    def _deliver(self, output: StepOutput) -> None:
        with self._news:
            self.outputs.append(output)
            for request_id, delta in output.deltas.items():
                if not self.tokens[request_id]:
                    self.cached[request_id] = delta.num_cached_tokens
                self.tokens[request_id] += delta.token_ids
                self.logprobs[request_id] += delta.logprobs
                self.steps[request_id].append(output.stats.num_steps)
                if delta.finish_reason is not None:
                    self.reasons[request_id] = delta.finish_reason
            for failure in output.failed:
                self.reasons[failure.request_id] = failure.code
            self._news.notify_all()


def bench(loaded: LoadedModel, *, grammars: Grammars | None = None, **options: object) -> Bench:
    settings = EngineOptions(model=MODEL, **(DEFAULTS | options))  # type: ignore[arg-type]
    return Bench(assemble_engine(settings, loaded, num_tokens=NUM_TOKENS, grammars=grammars))


def ask(
    request_id: str,
    *token_ids: int,
    max_tokens: int = 10,
    temperature: float = 0.0,
    seed: int | None = None,
    stop: tuple[int, ...] = (),
    spans: tuple[WireSpan, ...] = (),
    salt: bytes = b"",
    **params: object,
) -> Generate:
    return Generate(
        request_id=request_id,
        token_ids=token_ids,
        spans=spans,
        cache_salt=salt,
        params=SamplingParams(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            stop_token_ids=stop,
            **params,  # type: ignore[arg-type]
        ),
    )


def picture(shade: int) -> bytes:
    return bytes([shade, 255 - shade, 7]) * IMAGE_SIZE**2


def span(start: int, shade: int) -> WireSpan:
    return WireSpan(
        start=start,
        length=IMAGE_TOKENS,
        width=IMAGE_SIZE,
        height=IMAGE_SIZE,
        digest=bytes([shade]) * 32,
        original_width=1,
        original_height=1,
    )


def ask_about(request_id: str, shade: int, start: int = 3) -> tuple[Generate, list[bytes]]:
    ids = (*range(start), *[0] * IMAGE_TOKENS, 5, 6, 7)
    return ask(request_id, *ids, spans=(span(start, shade),)), [picture(shade)]
