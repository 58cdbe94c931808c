"""Recorded decode steps, on the CPU: a recording that is played by doing the work again.

What matters is the same there: nothing but the tensors that were there when it was recorded.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from engine_bench import Bench, ask, ask_about, bench

from sightline.core.engine_options import EngineOptions
from sightline.engine import build
from sightline.engine.decode_graphs import DecodeGraphs, Outputs, sizes_up_to
from sightline.models.gpu.gather_attention import GatherBackend
from sightline.models.kv_pool import KVPool
from sightline.models.loading import LoadedModel, load_model
from sightline.models.paged_model import PagedModel

pytestmark = pytest.mark.engine


class Tape:
    """Fixed outputs, as a graph has: playing writes the new results over the old ones."""

    def __init__(self, *, broken: bool = False) -> None:
        self.num_recorded = self.num_played = 0
        self._broken = broken

    def record(self, work: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        if self._broken:
            raise RuntimeError("this device records nothing")
        self.num_recorded += 1
        outputs = work()

        def play() -> None:
            self.num_played += 1
            for fixed, new in zip(outputs, work(), strict=True):
                fixed.copy_(new)

        return play, outputs


@pytest.fixture
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cpu")


@pytest.fixture
def with_tape(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[LoadedModel, Tape], Callable[..., Bench]]:
    """Engines that compute as one on a GPU does, with a tape in the place of CUDA's graphs."""

    def prepare(loaded: LoadedModel, tape: Tape) -> Callable[..., Bench]:
        model = loaded.model
        assert isinstance(model, PagedModel)
        model.attention = GatherBackend()

        def record(
            options: EngineOptions, loaded: LoadedModel, pool: KVPool, max_slots: int
        ) -> DecodeGraphs:
            # The scheduler gives out one block less than a GPU's pool has; here it is one more.
            own = model.allocate_pool(pool.num_blocks + 1, pool.block_size)
            pool.keys, pool.values = own.keys, own.values
            graphs = DecodeGraphs(
                model,
                pool,
                GatherBackend(),
                tape,
                max_seqs=6,
                max_slots=max_slots,
                nobodys_block=pool.num_blocks - 1,
            )
            graphs.record_all()
            assert graphs.is_right()
            return graphs

        monkeypatch.setattr(build, "record_decodes", record)
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
