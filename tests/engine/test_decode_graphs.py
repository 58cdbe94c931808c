"""Recorded decode steps, on the CPU: a recording that is played by doing the work again.

What matters is the same there: nothing but the tensors that were there when it was recorded.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from engine_bench import Bench, ask, ask_about, bench
from gpu_kernels import attention_backend, needs_the_interpreter
from pretend_device import sequence
from tape import Tape, recording

from sightline.core.engine import TokenLogprobs
from sightline.core.wire import Generate
from sightline.engine import build, runner, sampler
from sightline.engine.contract import StepResult
from sightline.engine.decode_graphs import DecodeGraphs
from sightline.engine.grammar import Grammars
from sightline.engine.graph_memory import sizes_up_to
from sightline.engine.plan import Chunk, Plan
from sightline.engine.queued_step import QueuedStep
from sightline.engine.runner import ModelRunner
from sightline.models.gpu.gather_attention import GatherBackend
from sightline.models.kv_pool import Segment
from sightline.models.loading import LoadedModel, load_model
from sightline.models.paged_model import PagedModel
from sightline.models.tokenizer_files import load_tokenizer

pytestmark = pytest.mark.engine


@pytest.fixture
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cpu")


@pytest.fixture
def with_tape(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[LoadedModel, Tape], Callable[..., Bench]]:
    """Engines that compute as one on a GPU does, with a tape in the place of CUDA's graphs."""

    def prepare(loaded: LoadedModel, tape: Tape) -> Callable[..., Bench]:
        monkeypatch.setattr(build, "record_decodes", recording(loaded, tape))
        return lambda **options: bench(loaded, **options)

    return prepare


def questions() -> list[tuple]:
    texts = [
        (ask("greedy", 1, 2, 3, max_tokens=40), []),
        (ask("long", *range(100), max_tokens=30), []),
        (ask("drawn", 4, 5, max_tokens=25, temperature=1.0, seed=7), []),
        (ask("cut", 6, 7, 8, max_tokens=25, temperature=0.8, top_p=0.8, seed=3), []),
        (ask("bent", 9, max_tokens=20, repetition_penalty=1.3, temperature=0.5, seed=1), []),
        (ask("short", 3, max_tokens=2), []),
    ]
    return [*texts, ask_about("picture", 3), ask_about("again", 3)]


def answers(desk: Bench) -> dict[str, list[int]]:
    with desk:
        asked = questions()
        for message, pixels in asked:
            desk.loop.submit(message, pixels)
        names = [message.request_id for message, _ in asked]
        return dict(zip(names, desk.wait(*names), strict=True))


@pytest.mark.parametrize("overlap", [False, True])
def test_replayed_steps_say_what_computed_ones_say(
    loaded: LoadedModel, tiny_folder: Path, with_tape, overlap: bool
) -> None:
    expected = answers(bench(load_model(tiny_folder, device="cpu")))
    tape = Tape()
    assert answers(with_tape(loaded, tape)(overlap_steps=overlap)) == expected
    assert tape.num_played > 10


class Behind:
    """Notes what was queued behind steps that had not ended, and what had to be computed again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_queued = self.num_again = 0
        begin, begin_behind = ModelRunner.begin, ModelRunner.begin_behind
        newest: list[Plan | None] = [None]

        def noted(runner: ModelRunner, plan: Plan, step: QueuedStep) -> QueuedStep | None:
            queued = begin_behind(runner, plan, step)
            self.num_queued += queued is not None
            newest[0] = None if queued is None else plan
            return queued

        def begun(runner: ModelRunner, plan: Plan) -> QueuedStep:
            self.num_again += newest[0] is not None
            newest[0] = None
            return begin(runner, plan)

        monkeypatch.setattr(ModelRunner, "begin", begun)
        monkeypatch.setattr(ModelRunner, "begin_behind", noted)


def many(dice: Random, number: int, **params: Any) -> list[Generate]:
    """Requests of all lengths, of which most are ended by one of many stop tokens."""
    asked = []
    for index in range(number):
        prompt = [dice.randrange(1, 250) for _ in range(dice.randint(1, 40))]
        stops = tuple(dice.sample(range(256), dice.choice((0, 20))))
        own: dict[str, Any] = {"temperature": dice.choice((0.0, 1.0)), "seed": index, **params}
        own.setdefault("repetition_penalty", dice.choice((1.0, 1.0, 1.3, 0.7)))
        length = dice.randint(1, 90)
        asked.append(ask(f"r{index}", *prompt, max_tokens=length, stop=stops, **own))
    return asked


def said(desk: Bench, asked: list[Generate], *, at_once: int = 5) -> list[list[int]]:
    """Submit a few, and another one whenever one has ended."""
    names = [message.request_id for message in asked]
    with desk:
        for index, message in enumerate(asked):
            if index >= at_once:
                desk.wait_for(lambda behind=index - at_once: len(desk.reasons) > behind)  # type: ignore[misc]
            desk.loop.submit(message)
        return desk.wait(*names)


def test_the_device_finds_the_next_step_when_one_ends(
    loaded: LoadedModel, tiny_folder: Path, with_tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes, stops or leaves meanwhile: answers are those of steps one after another."""
    asked = many(Random(1), 25)
    expected = said(bench(load_model(tiny_folder, device="cpu")), asked)
    behind = Behind(monkeypatch)
    assert said(with_tape(loaded, Tape())(overlap_steps=True), asked) == expected
    assert behind.num_queued > 100
    assert behind.num_again == 0


def test_a_token_that_was_drawn_again_is_what_the_next_step_reads(
    loaded: LoadedModel, tiny_folder: Path, with_tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a nucleus is wider than what was sorted, the step behind has read another token."""
    asked = many(Random(2), 30, temperature=0.5, top_p=0.7)
    expected = said(bench(load_model(tiny_folder, device="cpu")), asked)
    monkeypatch.setattr(sampler, "NUM_BEST", 32)
    monkeypatch.setattr(sampler, "DEEP_PAUSE", 2)
    behind = Behind(monkeypatch)
    assert said(with_tape(loaded, Tape())(overlap_steps=True), asked) == expected
    assert behind.num_queued > behind.num_again > 0


def test_a_step_that_cannot_be_queued_behind_another_is_computed_after_it(
    loaded: LoadedModel, tiny_folder: Path, with_tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = many(Random(3), 12)
    expected = said(bench(load_model(tiny_folder, device="cpu")), asked)
    calls, begin_behind = count(), ModelRunner.begin_behind

    def failing(runner: ModelRunner, plan: Plan, step: QueuedStep) -> QueuedStep | None:
        if next(calls) % 3 == 0:
            raise RuntimeError("no memory for a moment")
        return begin_behind(runner, plan, step)

    monkeypatch.setattr(ModelRunner, "begin_behind", failing)
    assert said(with_tape(loaded, Tape())(overlap_steps=True), asked) == expected
    assert next(calls) > 30


def test_a_step_whose_results_are_lost_is_computed_again_and_so_is_the_next(
    loaded: LoadedModel, tiny_folder: Path, with_tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = many(Random(4), 12)
    expected = said(bench(load_model(tiny_folder, device="cpu")), asked)
    lose_results(monkeypatch)
    behind = Behind(monkeypatch)
    assert said(with_tape(loaded, Tape())(overlap_steps=True), asked) == expected
    assert behind.num_again > 3


class StrictClock:
    """As CUDA's events: a time that was never noted cannot be asked for."""

    def __init__(self, _: object) -> None:
        self.is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True

    def since(self, earlier: "StrictClock") -> float:
        if not earlier.is_stopped:
            raise RuntimeError("both events must be recorded")
        return 0.0


def test_a_step_whose_end_cannot_be_queued_does_not_take_the_next_one_with_it(
    loaded: LoadedModel, tiny_folder: Path, with_tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be no memory left for sampling; those that are alone then must not fail for it."""
    asked = many(Random(8), 12)
    expected = said(bench(load_model(tiny_folder, device="cpu")), asked)
    calls, choose = count(1), ModelRunner._choose

    def failing(self: ModelRunner, plan: Plan, *rest: Any) -> Any:
        if len(plan.chunks) > 1 and next(calls) % 3 == 0:
            raise torch.OutOfMemoryError
        return choose(self, plan, *rest)

    monkeypatch.setattr(ModelRunner, "_choose", failing)
    monkeypatch.setattr(runner, "device_clock", StrictClock)
    assert said(with_tape(loaded, Tape())(overlap_steps=True), asked) == expected
    assert next(calls) > 30


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize(
    "params",
    [
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.7},
        {"presence_penalty": -0.5, "frequency_penalty": 1.0, "repetition_penalty": 1.2},
        {"logit_bias": ((5, 1.0), (7, -100.0))},
        {"logprobs": 0},
        {"logprobs": 3, "top_p": 0.8},
    ],
    ids=str,
)
def test_what_was_just_said_counts_before_the_host_knows_it(
    loaded: LoadedModel,
    tiny_folder: Path,
    with_tape,
    monkeypatch: pytest.MonkeyPatch,
    params: dict[str, Any],
    temperature: float,
) -> None:
    asked = many(Random(6), 6, temperature=temperature, **params)
    plain = bench(load_model(tiny_folder, device="cpu"))
    expected = said(plain, asked)
    behind = Behind(monkeypatch)
    desk = with_tape(loaded, Tape())(overlap_steps=True)
    assert said(desk, asked) == expected
    assert behind.num_queued > 20
    assert set(desk.reasons.values()) <= {"stop", "length"}
    assert desk.logprobs.keys() == plain.logprobs.keys()
    for name, told in plain.logprobs.items():
        found = desk.logprobs[name]
        assert [likeliest(token) for token in found] == [likeliest(token) for token in told]
        expected_scores = [score for token in told for score in scores_of(token)]
        assert [score for token in found for score in scores_of(token)] == pytest.approx(
            expected_scores, abs=1e-4
        )


@pytest.mark.parametrize("loses_results", [False, True])
def test_a_grammar_reads_the_newest_token_while_the_step_behind_is_under_way(
    loaded: LoadedModel,
    tiny_folder: Path,
    with_tape,
    monkeypatch: pytest.MonkeyPatch,
    loses_results: bool,
) -> None:
    """Its step is begun before the token is known, and chooses its own when that was read."""
    dice = Random(7)
    asked = many(dice, 25, temperature=1.0, top_p=0.9)
    asked = [bound(message) if dice.random() < 0.5 else message for message in asked]
    grammars = Grammars(load_tokenizer(tiny_folder), (256,), num_threads=1)
    expected = said(bench(load_model(tiny_folder, device="cpu"), grammars=grammars), asked)
    behind = Behind(monkeypatch)
    if loses_results:
        lose_results(monkeypatch)
    desk = with_tape(loaded, Tape())(overlap_steps=True, grammars=grammars)
    assert said(desk, asked) == expected
    assert behind.num_queued > 100
    assert behind.num_again > 3 or not loses_results


def bound(message: Generate) -> Generate:
    grammar = '%llguidance {}\nstart: /[a-e]{3,60}/ "!"'
    return replace(message, params=replace(message.params, grammar=grammar, stop_token_ids=(256,)))


def lose_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every seventh step of several sequences fail when it is waited for."""
    results, result = count(1), QueuedStep.result

    def failing(step: QueuedStep) -> StepResult:
        if next(results) % 7 == 0 and len(step._plan.chunks) > 1:  # one alone would be to blame
            raise RuntimeError("a result was lost")
        return result(step)

    monkeypatch.setattr(QueuedStep, "result", failing)


def likeliest(token: TokenLogprobs) -> list[int]:
    return [token_id for token_id, _ in token.top]


def scores_of(token: TokenLogprobs) -> list[float]:
    return [token.logprob, *(score for _, score in token.top)]


def test_preempted_sequences_are_replayed_from_their_new_blocks(
    loaded: LoadedModel, tiny_folder: Path, with_tape
) -> None:
    """With little memory, rows of the tables change owners all the time."""
    plain = bench(load_model(tiny_folder, device="cpu"))
    expected = answers(plain)
    block_bytes = loaded.model.allocate_pool(1, 16).size_bytes
    tape = Tape()
    desk = with_tape(loaded, tape)(kv_cache_memory=12 * block_bytes, max_model_len=140)
    assert answers(desk) == expected
    assert desk.outputs[-1].stats.num_preemptions > 0


def test_a_device_that_records_nothing_computes_every_step(
    loaded: LoadedModel, tiny_folder: Path, with_tape, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(bench(load_model(tiny_folder, device="cpu")))
    assert answers(with_tape(loaded, Tape(broken=True))()) == expected
    assert "this device records nothing" in caplog.text


def test_batches_are_filled_up_to_the_next_size() -> None:
    assert sizes_up_to(1) == (1,)
    assert sizes_up_to(6) == (1, 2, 4, 6)
    assert sizes_up_to(64) == (1, 2, 4, 8, 16, 24, 32, 48, 64)
    assert sizes_up_to(2000)[-1] == 512


@torch.inference_mode()
def test_a_context_shorter_than_the_shortest_bound_is_recorded_once(tiny_folder: Path) -> None:
    model = load_model(tiny_folder, device="cpu").model
    assert isinstance(model, PagedModel)
    model.attention, tape = GatherBackend(), Tape()
    pool = model.allocate_pool(3, 4)
    graphs = DecodeGraphs(
        model, pool, model.attention, tape, max_seqs=1, max_slots=8, nobodys_block=2
    )
    graphs.record_all()
    assert graphs.is_right()
    asked = sequence((5, 6, 7))
    assert graphs.can_run(Plan(chunks=(Chunk(asked, 2, 3, [0], True, 0),)))
    assert tape.num_recorded == 1


@pytest.mark.timeout(600)  # an interpreter takes its time
@pytest.mark.parametrize("name", ["sdpa", "triton"])
@torch.inference_mode()
def test_a_replayed_step_reads_every_sequences_own_keys(tiny_folder: Path, name: str) -> None:
    """Three sequences in a recording of four, whatever the way of attention."""
    if name == "triton":
        needs_the_interpreter()
    plain, model = (load_model(tiny_folder, device="cpu").model for _ in range(2))
    assert isinstance(model, PagedModel)
    assert isinstance(plain, PagedModel)
    pools = [one.allocate_pool(9, 4) for one in (plain, model)]
    for pool in pools:
        pool.keys.zero_()
        pool.values.zero_()
    prompts, tables = [(5, 6, 7, 8, 9), (10, 11), (12, 13, 14)], [[4, 2], [0], [7, 1]]
    segments = [Segment(len(ids), 0, blocks) for ids, blocks in zip(prompts, tables, strict=True)]
    embeds = plain.embed(torch.tensor([token for ids in prompts for token in ids]))
    positions = torch.cat([torch.arange(len(ids)) for ids in prompts])
    for pool in pools:
        plain.forward_batch(embeds, positions, pool, segments)

    decodes = [Segment(1, len(ids), blocks) for ids, blocks in zip(prompts, tables, strict=True)]
    newest = torch.tensor([20, 21, 22])
    slots = torch.tensor([len(ids) for ids in prompts])
    expected = plain.logits(plain.forward_batch(plain.embed(newest), slots, pools[0], decodes))

    model.attention = attention_backend(name)
    graphs = DecodeGraphs(
        model, pools[1], model.attention, Tape(), max_seqs=4, max_slots=8, nobodys_block=8
    )
    chunks = []
    for number, (ids, blocks) in enumerate(zip(prompts, tables, strict=True)):
        asked = sequence((*ids, 20 + number), name=str(number))
        chunks.append(Chunk(asked, len(ids), len(ids) + 1, blocks, True, 0))
    assert graphs.can_run(Plan(chunks=tuple(chunks)))
    logits, is_finite = graphs.run(chunks, [np.arange(8) for _ in chunks])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert is_finite.all()
    torch.testing.assert_close(pools[1].keys[:, :8], pools[0].keys[:, :8], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_what_the_device_may_still_read_is_not_written_over(tiny_folder: Path) -> None:
    """Nor by the second step behind: the one between may have been queued in vain."""
    model = load_model(tiny_folder, device="cpu").model
    assert isinstance(model, PagedModel)
    model.attention = GatherBackend()
    graphs = DecodeGraphs(
        model, model.allocate_pool(3, 4), model.attention, Tape(),
        max_seqs=1, max_slots=8, nobodys_block=2,
    )  # fmt: skip
    asked = sequence((5, 6, 7, 8, 9, 10))
    kept = []
    for slot in range(3):
        plan = Plan(chunks=(Chunk(asked, slot, slot + 1, [0, 1], True, 0),))
        assert graphs.can_run(plan)
        graphs.run(plan.chunks, [np.arange(8)])
        kept.append((graphs._hosts[0], graphs._hosts[0].clone()))
    assert all(torch.equal(host, then) for host, then in kept)
    assert [int(host[0, 0]) for host, _ in kept] == [5, 6, 7]
