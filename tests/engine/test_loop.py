"""The engine's loop with a tiny model of the real wiring, in this process."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import engine_bench
import pytest
import torch
from engine_bench import (
    IMAGE_SIZE,
    MODEL,
    NUM_TOKENS,
    Bench,
    ask,
    ask_about,
    bench,
    picture,
    span,
)
from torch_threads import torch_threads

from sightline.core.engine_options import EngineOptions, FaultOptions
from sightline.core.errors import StartupError
from sightline.core.wire import Generate
from sightline.engine import build
from sightline.engine.build import assemble_engine, build_engine
from sightline.models.cpu.state import KernelState
from sightline.models.loading import LoadedModel, load_model

pytestmark = pytest.mark.engine

RAISE, NAN = 200, 201


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(autouse=True, params=[False, True], ids=["plain", "overlapped"])
def overlap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with both loops."""
    monkeypatch.setitem(engine_bench.DEFAULTS, "overlap_steps", request.param)


@torch.inference_mode()
def oracle(loaded: LoadedModel, message: Generate, pixels: list[bytes]) -> list[int]:
    """Greedy tokens by a full forward over everything, again for each token; no cache."""
    model = loaded.model
    spans = [(s.start, s.length) for s in message.spans]
    ids = list(message.token_ids)
    for _ in range(message.params.max_tokens):
        embeds = model.embed(torch.tensor(ids))
        for (start, length), raw in zip(spans, pixels, strict=True):
            square = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
            rows = model.encode_images(square.view(1, IMAGE_SIZE, IMAGE_SIZE, 3))
            embeds[start : start + length] = rows[0]
        hidden = model.forward(embeds, model.positions(len(ids), spans))
        ids.append(int(model.logits(hidden[-1])[:NUM_TOKENS].argmax()))
    return ids[len(message.token_ids) :]


def test_greedy_answers_are_those_of_the_whole_model_without_a_cache(loaded: LoadedModel) -> None:
    text = ask("text", *range(40, 90))
    image, pixels = ask_about("image", 50)
    late, late_pixels = ask_about("late", 90, start=14)  # the image is cut by the first chunk
    with bench(loaded) as desk:
        desk.loop.submit(text)
        desk.loop.submit(image, pixels)
        desk.loop.submit(late, late_pixels)
        said = desk.wait("text", "image", "late")
    assert said == [
        oracle(loaded, text, []),
        oracle(loaded, image, pixels),
        oracle(loaded, late, late_pixels),
    ]


@pytest.mark.parametrize("chunk", [1, 7, 16, 512])
def test_chunks_of_any_size_give_the_same_answer(loaded: LoadedModel, chunk: int) -> None:
    image, pixels = ask_about("image", 50)
    with bench(loaded, max_num_batched_tokens=chunk) as desk:
        desk.loop.submit(image, pixels)
        assert desk.wait("image") == [oracle(loaded, image, pixels)]


def test_every_running_sequence_gets_a_token_in_every_step(loaded: LoadedModel) -> None:
    with bench(loaded, num_speculative_tokens=0) as desk:
        for name in "abc":
            desk.loop.submit(ask(name, 1, 2, ord(name), max_tokens=20))
        desk.wait(*"abc")
        for name in "abc":
            steps = desk.steps[name]
            assert steps == list(range(steps[0], steps[0] + 20))


def test_a_request_that_comes_later_does_not_wait_for_a_long_answer(loaded: LoadedModel) -> None:
    with bench(loaded) as desk:
        desk.loop.submit(ask("long", 1, 2, 3, max_tokens=400))
        desk.wait_for_tokens("long", 5)
        desk.loop.submit(ask("short", 4, 5, 6, max_tokens=3))
        desk.wait("short", "long")
        assert desk.steps["short"][-1] < desk.steps["long"][-1]


@pytest.mark.parametrize("num_cores", [1, 2])
def test_cores_that_a_step_would_all_take_are_left_alone_after_a_first_token(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, num_cores: int
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(build, "count_cpus", lambda: num_cores)
    monkeypatch.setattr("sightline.engine.loop.time.sleep", pauses.append)
    with bench(loaded) as engine:
        for request_id in "ab":
            engine.loop.submit(ask(request_id, 1, 2, 3, max_tokens=5))
            engine.wait(request_id)
    is_plain = not engine_bench.DEFAULTS["overlap_steps"]
    assert pauses == [build.FIRST_TOKEN_PAUSE_S] * (2 if is_plain and num_cores == 1 else 0)


def test_a_seed_gives_the_same_answer_alone_and_in_company(loaded: LoadedModel) -> None:
    with bench(loaded) as desk:
        desk.loop.submit(ask("alone", 9, 8, 7, temperature=1.0, seed=3))
        alone = desk.wait("alone")
        for number in range(5):
            desk.loop.submit(ask(f"company {number}", number, 7, temperature=1.0))
        desk.loop.submit(ask("again", 9, 8, 7, temperature=1.0, seed=3))
        assert desk.wait("again") == alone


def test_requests_without_a_seed_differ(loaded: LoadedModel) -> None:
    with bench(loaded) as desk:
        for name in "ab":
            desk.loop.submit(ask(name, 9, 8, 7, temperature=2.0, max_tokens=30))
        first, second = desk.wait(*"ab")
    assert first != second


def test_an_aborted_request_is_gone_within_one_step(loaded: LoadedModel) -> None:
    with bench(loaded) as desk:
        desk.loop.submit(ask("leaves", 1, 2, 3, max_tokens=400))
        desk.loop.submit(ask("stays", 4, 5, 6, max_tokens=60))
        desk.wait_for_tokens("leaves", 3)
        aborted_at = desk.outputs[-1].stats.num_steps
        desk.loop.abort("leaves")
        desk.wait("stays")
        # One step may have been under way, and one may have ended, when the abort came in.
        assert desk.steps["leaves"][-1] <= aborted_at + 2
        last = desk.wait_until_idle()
    assert last.stats.kv_slots_used == 0


def test_aborting_a_waiting_request_lets_the_next_one_in(loaded: LoadedModel) -> None:
    with bench(loaded, max_num_seqs=1) as desk:
        desk.loop.submit(ask("first", 1, 2, 3, max_tokens=100))
        desk.loop.submit(ask("second", 1, 2, 3))
        desk.loop.submit(ask("third", 1, 2, 3))
        desk.loop.abort("second")
        desk.wait("first", "third")
    assert "second" not in desk.tokens


def test_a_stop_token_is_said_and_ends_the_answer(loaded: LoadedModel) -> None:
    with bench(loaded) as desk:
        desk.loop.submit(ask("a", 1, 2, 3))
        (said,) = desk.wait("a")
        stop = said[4]
        desk.loop.submit(ask("b", 1, 2, 3, stop=(stop,)))
        assert desk.wait("b") == [said[: said.index(stop) + 1]]
        assert (desk.reasons["a"], desk.reasons["b"]) == ("length", "stop")


def test_an_answer_ends_where_the_context_ends(loaded: LoadedModel) -> None:
    with bench(loaded, max_model_len=64) as desk:
        desk.loop.submit(ask("a", *range(60), max_tokens=100))
        (said,) = desk.wait("a")
    assert (len(said), desk.reasons["a"]) == (4, "length")


def test_a_full_cache_makes_requests_wait_and_fails_none(loaded: LoadedModel) -> None:
    slot_bytes = loaded.model.allocate_cache(1).size_bytes
    with bench(loaded, kv_cache_memory=64 * slot_bytes) as desk:
        names = [str(n) for n in range(10)]
        for name in names:
            desk.loop.submit(ask(name, *range(20), max_tokens=10))
        said = desk.wait(*names)
        assert {tuple(s) for s in said} == {tuple(said[0])}
        assert max(o.stats.kv_slots_used for o in desk.outputs) <= 64
        assert max(o.stats.num_running for o in desk.outputs) == 2


@pytest.fixture
def encoded(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each call of the vision tower got."""
    calls: list[int] = []
    encode = loaded.model.encode_images
    monkeypatch.setattr(
        loaded.model, "encode_images", lambda pixels: calls.append(len(pixels)) or encode(pixels)
    )
    return calls


def test_a_picture_is_encoded_once(loaded: LoadedModel, encoded: list[int]) -> None:
    with bench(loaded) as desk:
        for name, shade in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
            desk.loop.submit(*ask_about(name, shade))
        a, b, c, d = desk.wait(*"abcd")
    assert (a, b) == (c, d)
    assert len(encoded) == 2


def test_a_picture_is_encoded_again_for_another_tenant(
    loaded: LoadedModel, encoded: list[int]
) -> None:
    with bench(loaded) as desk:
        for name, salt in (("a", b"one"), ("b", b"two"), ("c", b"one")):
            message, pixels = ask_about(name, 1)
            desk.loop.submit(replace(message, cache_salt=salt), pixels)
        a, b, c = desk.wait(*"abc")
    assert a == b == c
    assert len(encoded) == 2


def test_who_has_to_wait_for_room_for_its_picture_is_admitted(
    loaded: LoadedModel, encoded: list[int]
) -> None:
    """There is room for one picture, which the step that is being computed still holds."""
    asked = [ask_about(name, number, start=0) for number, name in enumerate("abc")]
    desk = bench(
        loaded,
        max_num_batched_tokens=len(asked[0][0].token_ids),
        embedding_cache_bytes=0,
    )
    for message, pixels in asked:
        params = replace(message.params, max_tokens=1)
        desk.loop.submit(replace(message, params=params), pixels)
    with desk:
        assert [len(tokens) for tokens in desk.wait(*"abc")] == [1, 1, 1]
        stats = desk.wait_until_idle().stats
    assert len(encoded) == 3
    assert sum(stats.queue_time_s.counts) == 3


@pytest.mark.parametrize("fault", [RAISE, NAN], ids=["raises", "gives NaN"])
def test_a_failing_step_fails_only_its_own_request(loaded: LoadedModel, fault: int) -> None:
    faults = FaultOptions(raise_token=RAISE, nan_token=NAN)
    with bench(loaded, allow_faults=True, faults=faults) as desk:
        for name in "abc":
            desk.loop.submit(ask(name, 1, 2, ord(name)))
        alone = desk.wait(*"abc")
        for name in "xyz":
            desk.loop.submit(ask(name, 1, 2, ord(name) - ord("x") + ord("a")))
        desk.loop.submit(ask("bad", 1, 2, fault))
        assert desk.wait(*"xyz") == alone
        desk.wait("bad")
        last = desk.wait_until_idle()
    assert desk.reasons["bad"] == "internal_error"
    assert last.stats.kv_slots_used == 0


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (ask("r"), "context_length_exceeded"),
        (ask("r", *[1] * 512), "context_length_exceeded"),
        (ask("r", 1, 272), "internal_error"),
        (ask("r", 1, -1), "internal_error"),
        (ask("r", 1, max_tokens=0), "internal_error"),
        (ask("r", 1, 2, 3, spans=(span(0, 1),)), "internal_error"),
        (ask("r", *[1] * 40, spans=(span(30, 1),)), "internal_error"),
        (ask("r", *[1] * 40, spans=(span(-1, 1),)), "internal_error"),
    ],
)
def test_what_the_front_should_not_have_sent_is_refused(
    loaded: LoadedModel, message: Generate, code: str
) -> None:
    with bench(loaded) as desk:
        desk.loop.submit(message, [picture(1) for _ in message.spans])
        desk.wait("r")
        assert desk.reasons["r"] == code
        desk.loop.submit(ask("next", 1, 2))
        assert len(desk.wait("next")[0]) == 10


def test_who_is_on_the_device_is_always_noted(loaded: LoadedModel) -> None:
    with bench(loaded) as desk:
        desk.loop.submit(ask("a", 1, 2, max_tokens=50))
        desk.wait_for_tokens("a", 1)
        assert desk.noted == [("a",)]
        desk.loop.submit(ask("b", 1, 2))
        desk.wait("a", "b")
        desk.wait_until_idle()
    assert desk.noted == [("a",), ("a", "b"), ("a",), ()]


def test_an_idle_engine_has_a_pulse(loaded: LoadedModel) -> None:
    loop = assemble_engine(EngineOptions(model=MODEL), loaded, num_tokens=NUM_TOKENS)
    beaten = threading.Event()
    beat = loop.pulse.beat
    loop.pulse.beat = lambda *_: (beat(), beaten.set())  # type: ignore[method-assign, assignment]
    with Bench(loop):
        beaten.clear()
        assert beaten.wait(timeout=30)


def test_the_layers_of_the_model_beat_the_pulse(loaded: LoadedModel) -> None:
    loop = assemble_engine(EngineOptions(model=MODEL), loaded, num_tokens=NUM_TOKENS)
    before = loop.pulse.count
    with torch.inference_mode():
        loaded.model.encode_images(torch.zeros(1, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8))
    assert loop.pulse.count >= before + 2


@pytest.mark.parametrize(
    ("found", "is_used", "words"),
    [
        (KernelState(state="ours", kind="avx2"), True, "our own (avx2)"),
        (KernelState(state="ours", kind="avx2"), False, "torch's (they suit this number format"),
        (KernelState(state="not_compiled"), False, "torch's (ours were not compiled)"),
    ],
)
def test_it_is_said_which_kernels_the_processor_is_given(
    loaded: LoadedModel,
    found: KernelState,
    is_used: bool,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(build, "kernel_state", lambda: found)
    monkeypatch.setattr(build, "has_streamed", lambda model: is_used)
    caplog.set_level(logging.INFO, build.__name__)
    assemble_engine(EngineOptions(model=MODEL), loaded, num_tokens=NUM_TOKENS)
    assert f"CPU kernels: {words}" in caplog.text


def test_the_random_state_of_torch_is_left_alone(loaded: LoadedModel) -> None:
    before = torch.random.get_rng_state()
    with bench(loaded) as desk:
        desk.loop.submit(ask("a", 1, 2, temperature=1.0, seed=1))
        desk.loop.submit(ask("b", 1, 2, temperature=1.0))
        desk.wait("a", "b")
    assert torch.equal(before, torch.random.get_rng_state())


def test_what_cannot_be_built_says_why(tiny_folder: Path, loaded: LoadedModel) -> None:
    for options, words in (
        ({"max_model_len": 100_000}, "at most 512"),
        ({"kv_cache_memory": 1024}, "kv_cache_memory"),
    ):
        settings = EngineOptions(model=MODEL, **options)  # type: ignore[arg-type]
        with pytest.raises(StartupError, match=words):
            assemble_engine(settings, loaded, num_tokens=NUM_TOKENS)
    with pytest.raises(StartupError, match="allow_faults"):
        build_engine(
            EngineOptions(model=str(tiny_folder), faults=FaultOptions()), lambda done, total: None
        )


def test_a_model_that_gives_nan_does_not_start(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = loaded.model.logits
    monkeypatch.setattr(loaded.model, "logits", lambda hidden: logits(hidden) * float("nan"))
    with pytest.raises(StartupError, match="NaN"):
        assemble_engine(EngineOptions(model=MODEL), loaded, num_tokens=NUM_TOKENS)


def test_the_line_of_a_step_tells_of_no_other_step(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sightline.engine.steps")
    desk = bench(loaded, debug_engine=True, max_num_batched_tokens=16)
    desk.loop.submit(ask("first", *range(16), max_tokens=3))
    desk.loop.submit(ask("second", *range(50, 58), max_tokens=3))
    with desk:
        desk.wait("first", "second")
    lines = [line.split(" | ")[:4] for line in caplog.messages if line.startswith("step")]
    assert lines[:3] == [
        [
            "step 1",
            "1 running, 1 waiting",
            "blocks 1 used, 0 cached of 1024",
            "16 tokens: prefill first 0..16 of 16",
        ],
        [
            "step 2",
            "2 running, 0 waiting",
            "blocks 3 used, 0 cached of 1024",
            "9 tokens: decode x1, prefill second 0..8 of 8",
        ],
        [
            "step 3",
            "2 running, 0 waiting",
            "blocks 3 used, 0 cached of 1024",
            "2 tokens: decode x2",
        ],
    ]
