"""Every kind of request at once, in engines that are too small for them, while others hang up.

Who stays gets what it would have got alone, bit for bit; when all is over the books are empty.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import eq
from pathlib import Path

import pytest
from engine_bench import IMAGE_TOKENS, NUM_TOKENS, Bench, ask, bench, picture, span
from tape import Tape, recording

from sightline.core.engine import TokenLogprobs
from sightline.core.wire import Generate
from sightline.engine import build, sampler
from sightline.engine.contract import Step
from sightline.engine.grammar import Grammars
from sightline.engine.plan import Plan
from sightline.engine.queued_step import QueuedStep
from sightline.engine.runner import ModelRunner
from sightline.models.loading import LoadedModel, load_model
from sightline.models.tokenizer_files import load_tokenizer

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("one_thread")]

STOPS = (256, 263, 265)
GRAMMARS = (
    '%llguidance {}\nstart: /[a-c]{3,30}/ "!"',
    '%llguidance {}\nstart: %json {"type": "array", "items": {"type": "integer"}, "maxItems": 9}',
    "%llguidance {}\nstart: /(.|\\n){2,40}/",
)
# Blocks for the longest request, and few more.
MOST_SLOTS = 190

Answer = tuple[list[int], list[TokenLogprobs], str]


@dataclass(frozen=True)
class Asked:
    message: Generate
    pixels: list[bytes]

    @property
    def name(self) -> str:
        return self.message.request_id

    def named(self, name: str) -> "Asked":
        return replace(self, message=replace(self.message, request_id=name))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def loaded(request: pytest.FixtureRequest, tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cpu", dtype=request.param)


@pytest.fixture(scope="module")
def grammars(tiny_folder: Path) -> Grammars:
    return Grammars(load_tokenizer(tiny_folder), STOPS, num_threads=1)


def any_request(dice: random.Random, name: str, stems: list[list[int]]) -> Asked:
    ids, spans, pixels = dice.choice(stems)[: dice.choice((0, 7, 32, 60))], [], []
    for _ in range(dice.choice((0, 0, 0, 1, 2))):
        shade = dice.randrange(4)
        spans.append(span(len(ids), shade))
        pixels.append(picture(shade))
        ids = [*ids, *[0] * IMAGE_TOKENS, *(dice.randrange(256) for _ in range(dice.randrange(3)))]
    ids = [*ids, *(dice.randrange(256) for _ in range(dice.randint(1, 30)))]
    message = ask(
        name,
        *ids,
        max_tokens=dice.randint(1, 40),
        temperature=dice.choice((0.0, 0.0, 0.6, 1.0, 1.7)),
        seed=dice.randrange(5),
        stop=STOPS,
        spans=tuple(spans),
        salt=dice.choice((b"", b"", b"tenant")),
        logprobs=dice.choice((None, 0, 3)),
        top_p=dice.choice((1.0, 1.0, 0.9, 0.3)),
        top_k=dice.choice((0, 0, 1, 40)),
        min_p=dice.choice((0.0, 0.0, 0.05)),
        presence_penalty=dice.choice((0.0, 0.0, 1.5)),
        frequency_penalty=dice.choice((0.0, 0.0, 0.7, -0.5)),
        repetition_penalty=dice.choice((1.0, 1.0, 1.3, 0.8)),
        logit_bias=dice.choice(((), (), ((65, 5.0), (66, -100.0), (NUM_TOKENS - 1, 2.0)))),
        grammar=dice.choice((None, None, None, *GRAMMARS)),
    )
    return Asked(message, pixels)


def answer(desk: Bench, name: str) -> Answer:
    return desk.tokens[name], desk.logprobs[name], desk.reasons[name]


def is_alike(found: Answer, expected: Answer) -> bool:
    """Whether the same was said, as likely up to rounding."""
    one, other = (
        [score for told in answer[1] for score in (told.logprob, *(top for _, top in told.top))]
        for answer in (found, expected)
    )
    assert one == pytest.approx(other, abs=1e-4)
    return (found[0], found[2]) == (expected[0], expected[2])


def turmoil(
    loaded: LoadedModel,
    grammars: Grammars,
    number: int,
    *,
    overlap: bool,
    is_same: Callable[[Answer, Answer], bool] = eq,
) -> None:
    dice = random.Random(number)
    stems = [[dice.randrange(256) for _ in range(60)] for _ in range(2)]
    asked = [any_request(dice, f"r{n}", stems) for n in range(dice.randint(6, 20))]
    # Some ask the same several times, as `n` answers do, with states of their own.
    for one in asked[:3]:
        for choice in range(2):
            params = replace(one.message.params, seed=100 + choice, temperature=1.0)
            message = replace(one.message, request_id=f"{one.name}.{choice}", params=params)
            asked.append(replace(one, message=message))
    with bench(loaded, grammars=grammars, prefix_caching=False, max_num_batched_tokens=512) as desk:
        for one in asked:
            desk.loop.submit(one.message, one.pixels)
            desk.wait(one.name)
        alone = {one.name: answer(desk, one.name) for one in asked}
    block_size = dice.choice((1, 4, 8, 16))
    block_bytes = loaded.model.allocate_pool(1, block_size).size_bytes
    with bench(
        loaded,
        grammars=grammars,
        block_size=block_size,
        kv_cache_memory=dice.randint(MOST_SLOTS, 2 * MOST_SLOTS) // block_size * block_bytes,
        max_num_batched_tokens=dice.choice((2, 17, 64, 300)),
        max_num_seqs=dice.choice((2, 6, 64)),
        embedding_cache_bytes=dice.choice((0, 10**6)),
        prefix_caching=dice.random() < 0.8,
        overlap_steps=overlap,
    ) as desk:
        for turn in range(2):
            dice.shuffle(asked)
            leaving: list[str] = []
            for one in asked:
                if dice.random() < 0.4:
                    left = one.named(f"left {turn} {one.name}")
                    desk.loop.submit(left.message, left.pixels)
                    leaving.append(left.name)
                mine = one.named(f"{turn} {one.name}")
                desk.loop.submit(mine.message, mine.pixels)
                if dice.random() < 0.3:
                    steps = desk.loop.meter.num_steps + dice.randrange(1, 6)
                    desk.wait_for(lambda at=steps: is_past(desk, at))  # type: ignore[misc]
                if leaving and dice.random() < 0.7:
                    desk.loop.abort(leaving.pop(dice.randrange(len(leaving))))
            for name in leaving:
                desk.loop.abort(name)
            desk.wait(*(f"{turn} {one.name}" for one in asked))
            for one in asked:
                found = answer(desk, f"{turn} {one.name}")
                assert is_same(found, alone[one.name]), f"turmoil {number}, {one.message.params}"
        stats = desk.wait_until_idle().stats
        assert (stats.kv_slots_used, stats.num_embedding_leases) == (0, 0)
        desk.loop._scheduler.check_integrity()
        desk.wait_for(lambda: not desk.loop._compiling)


def is_past(desk: Bench, step: int) -> bool:
    stats = desk.outputs[-1].stats
    return stats.num_steps >= step or stats.num_running == stats.num_waiting == 0


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_who_stays_gets_what_it_would_have_got_alone(
    loaded: LoadedModel, grammars: Grammars, overlap: bool
) -> None:
    turmoil(loaded, grammars, 0, overlap=overlap)


@pytest.fixture
def behind(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """A model whose decode steps are queued behind each other, as on a GPU."""
    loaded = load_model(tiny_folder, device="cpu", dtype="float32")
    monkeypatch.setattr(build, "record_decodes", recording(loaded, Tape()))
    # Wide nuclei are found out afterwards, and then another token was the right one.
    monkeypatch.setattr(sampler, "NUM_BEST", 64)
    monkeypatch.setattr(sampler, "DEEP_PAUSE", 2)
    return loaded


@pytest.mark.parametrize("number", range(3))
def test_who_stays_gets_it_where_steps_are_queued_behind_steps(
    behind: LoadedModel, grammars: Grammars, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued, begin_behind = [], ModelRunner.begin_behind

    def noted(runner: ModelRunner, plan: Plan, step: Step) -> QueuedStep | None:
        queued.append(begin_behind(runner, plan, step))
        return queued[-1]

    monkeypatch.setattr(ModelRunner, "begin_behind", noted)
    turmoil(behind, grammars, number, overlap=True, is_same=is_alike)
    assert sum(step is not None for step in queued) > 50


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_who_stays_gets_it_where_steps_are_queued_behind_steps_in_a_hundred_engines(
    behind: LoadedModel, grammars: Grammars
) -> None:
    for number in range(100):
        turmoil(behind, grammars, number, overlap=True, is_same=is_alike)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_who_stays_gets_what_it_would_have_got_alone_in_a_hundred_engines(
    loaded: LoadedModel, grammars: Grammars, overlap: bool
) -> None:
    for number in range(100):
        turmoil(loaded, grammars, number, overlap=overlap)
