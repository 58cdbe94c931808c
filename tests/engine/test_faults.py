"""What goes wrong for one request goes wrong for that request only."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from engine_bench import Bench, ask, ask_about, bench
from torch import Tensor
from torch_threads import torch_threads

from sightline.core.engine_options import FaultOptions
from sightline.engine.contract import DeviceLost
from sightline.models.loading import LoadedModel, load_model

pytestmark = pytest.mark.engine

RAISE, NAN = 200, 201


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


def books(desk: Bench) -> tuple[int, int, int, int]:
    stats = desk.wait_until_idle().stats
    return stats.num_running, stats.num_waiting, stats.kv_slots_used, stats.num_embedding_leases


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_one_poisoned_request_of_32_fails_alone(loaded: LoadedModel, overlap: bool) -> None:
    options = {
        "allow_faults": True,
        "faults": FaultOptions(raise_token=RAISE),
        "max_num_batched_tokens": 64,
        "overlap_steps": overlap,
    }
    asked = [ask(str(n), *range(n, n + 5), max_tokens=8, logprobs=0) for n in range(31)]
    with bench(loaded, **options) as desk:
        for message in asked:
            desk.loop.submit(message)
        alone = desk.wait(*map(str, range(31)))
    with bench(loaded, **options) as desk:
        for message in asked[:16]:
            desk.loop.submit(message)
        desk.loop.submit(ask("poison", 1, RAISE, 2))
        for message in asked[16:]:
            desk.loop.submit(message)
        assert desk.wait(*map(str, range(31))) == alone
        desk.wait("poison")
        assert desk.reasons["poison"] == "internal_error"
        assert books(desk) == (0, 0, 0, 0)


@pytest.fixture
def nan_token(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token whose embedding is not a number, as a damaged or overflowing model would have."""
    embed = loaded.model.embed

    def spoiled(ids: Tensor) -> Tensor:
        return embed(ids).masked_fill((ids == NAN)[..., None], float("nan"))

    monkeypatch.setattr(loaded.model, "embed", spoiled)


@pytest.mark.usefixtures("nan_token")
def test_what_is_not_a_number_ends_its_request_and_is_never_cached(loaded: LoadedModel) -> None:
    good = list(range(40, 60))
    with bench(loaded, max_num_batched_tokens=16, block_size=4) as desk:
        desk.loop.submit(ask("alone", *good))
        (alone,) = desk.wait("alone")
        # Its first chunks are sound, and the rows behind the bad one are spoiled by it.
        desk.loop.submit(ask("bad", *range(30), NAN, *range(30)))
        desk.loop.submit(ask("good", *good))
        desk.wait("bad", "good")
        assert desk.reasons["bad"] == "internal_error"
        assert desk.tokens["good"] == alone
        desk.loop.submit(ask("same beginning", *range(30), 7))
        desk.wait("same beginning")
        assert desk.cached["same beginning"] == 0
        assert books(desk) == (0, 0, 0, 0)


def only_for(shade: int, encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def fail(pixels: Tensor) -> Tensor:
        if bool((pixels[:, 0, 0, 0] == shade).any()):
            raise RuntimeError("a bug of the vision tower")
        return encode(pixels)

    return fail


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_a_picture_that_cannot_be_encoded_fails_those_who_show_it(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, overlap: bool
) -> None:
    names = [f"{shade}.{n}" for shade in (10, 20, 30, 40) for n in range(2)]
    with bench(loaded, max_num_batched_tokens=512, overlap_steps=overlap) as desk:
        for name in names:
            desk.loop.submit(*ask_about(name, int(name[:2])))
        alone = dict(zip(names, desk.wait(*names), strict=True))
    encode = loaded.model.encode_images
    monkeypatch.setattr(loaded.model, "encode_images", only_for(30, encode))
    with bench(loaded, max_num_batched_tokens=512, overlap_steps=overlap) as desk:
        for name in names:
            desk.loop.submit(*ask_about(name, int(name[:2])))
        desk.wait(*names)
        for name in names:
            if name.startswith("30"):
                assert desk.reasons[name] == "internal_error"
            else:
                assert desk.tokens[name] == alone[name]
        assert books(desk) == (0, 0, 0, 0)


def test_a_request_for_which_memory_is_short_however_alone_says_so(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = loaded.model.embed

    def greedy(ids: Tensor) -> Tensor:
        if bool((ids == RAISE).any()):
            raise torch.OutOfMemoryError("on purpose")
        return embed(ids)

    monkeypatch.setattr(loaded.model, "embed", greedy)
    with bench(loaded) as desk:
        desk.loop.submit(ask("modest", 1, 2))
        desk.loop.submit(ask("greedy", 1, RAISE, 2))
        desk.wait("modest", "greedy")
        assert desk.reasons["greedy"] == "out_of_memory"
        assert desk.reasons["modest"] in ("stop", "length")
        assert books(desk) == (0, 0, 0, 0)


def test_memory_that_is_short_once_fails_nobody(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = loaded.model.forward_batch, []

    def sometimes(*arguments: object, wanted: list[int]) -> Tensor:
        calls.append(arguments)
        if len(calls) == 5:
            raise torch.OutOfMemoryError("on purpose")
        return forward(*arguments, wanted=wanted)  # type: ignore[arg-type]

    with bench(loaded) as desk:
        for name in "abcd":
            desk.loop.submit(ask(name, 1, 2, ord(name)))
        alone = desk.wait(*"abcd")
    with bench(loaded) as desk:
        monkeypatch.setattr(loaded.model, "forward_batch", sometimes)
        for name in "abcd":
            desk.loop.submit(ask(name, 1, 2, ord(name)))
        assert desk.wait(*"abcd") == alone


def test_a_lost_device_ends_the_engine(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*arguments: object, wanted: list[int]) -> Tensor:
        raise DeviceLost

    desk = bench(loaded)
    monkeypatch.setattr(loaded.model, "forward_batch", lost)
    desk.loop.submit(ask("a", 1, 2))
    with pytest.raises(DeviceLost):
        desk.loop.run(lambda output: None)


def cancel_at_random(loaded: LoadedModel, number: int, *, overlap: bool) -> None:
    """Ask, cancel at every stage, and look at the books."""
    dice = random.Random(number)
    block_bytes = loaded.model.allocate_pool(1, 8).size_bytes
    with bench(
        loaded,
        max_num_batched_tokens=32,
        max_num_seqs=16,
        block_size=8,
        kv_cache_memory=40 * block_bytes,
        embedding_cache_bytes=0,
        overlap_steps=overlap,
    ) as desk:
        live: list[str] = []
        for n in range(number):
            name = str(n)
            if dice.random() < 0.3:
                desk.loop.submit(*ask_about(name, dice.randrange(5), start=dice.randrange(20)))
            else:
                stem = range(dice.randrange(60))
                desk.loop.submit(ask(name, *stem, n % 256, max_tokens=dice.randint(1, 12)))
            live.append(name)
            while len(live) > dice.randrange(40):
                desk.loop.abort(live.pop(dice.randrange(len(live))))
            if n % 16 == 0:
                steps = desk.loop.meter.num_steps + dice.randrange(4)
                desk.wait_for(lambda at=steps: is_past(desk, at))  # type: ignore[misc]
        for name in live:
            desk.loop.abort(name)
        desk.loop.submit(ask("last", 1, 2))
        desk.wait("last")
        assert books(desk) == (0, 0, 0, 0)
        stats = desk.wait_until_idle().stats
        ended = stats.num_aborted + stats.num_stopped + stats.num_cut
        assert (stats.num_failed, ended) == (0, number + 1)
        desk.loop._scheduler.check_integrity()
        # Freed before the engine rests, and later than the last output of a step.
        desk.wait_for(lambda: not desk.loop._runner._kept)  # type: ignore[attr-defined]


def is_past(desk: Bench, step: int) -> bool:
    """Whether so many steps are over, or nothing is left to make one of: all may be cancelled."""
    stats = desk.outputs[-1].stats if desk.outputs else None
    is_idle = stats is not None and stats.num_running == stats.num_waiting == 0
    return is_idle or desk.loop.meter.num_steps >= step


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_cancels_at_every_stage_leave_nothing(loaded: LoadedModel, overlap: bool) -> None:
    cancel_at_random(loaded, 150, overlap=overlap)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_ten_thousand_requests_with_cancels_leave_nothing(
    loaded: LoadedModel, overlap: bool
) -> None:
    cancel_at_random(loaded, 10_000, overlap=overlap)


def test_the_books_are_looked_at_when_idle(
    loaded: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    with bench(loaded) as desk:
        desk.loop.submit(ask("a", 1, 2, max_tokens=40))
        desk.wait_for_tokens("a", 2)
        desk.loop._scheduler.pool._free.pop()  # a block is lost
        desk.wait("a")
        desk.wait_until_idle()
        desk.wait_for(lambda: "do not add up" in caplog.text)
