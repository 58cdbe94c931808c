"""The same request gives the same tokens and likelihoods, bit for bit, whatever is around it.

The reference is every request alone, with no cache, its prompt computed in one piece. fp32 on the
CPU is exact by construction: there is no tolerance here, and no second try.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_bench import IMAGE_TOKENS, Bench, ask, bench, picture, span

from sightline.core.engine import EngineStats, TokenLogprobs
from sightline.core.wire import Generate
from sightline.models.loading import LoadedModel, load_model

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("one_thread")]

Answer = tuple[list[int], list[TokenLogprobs]]


@dataclass(frozen=True)
class Asked:
    message: Generate
    pixels: list[bytes]


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(tiny_folder, device="cpu", dtype="float32")


def mixture(number: int, seed: int = 0) -> list[Asked]:
    """Texts and pictures, greedy and drawn, that often begin alike."""
    dice = random.Random(seed)
    stems = [[dice.randrange(256) for _ in range(60)] for _ in range(2)]
    made = []
    for n in range(number):
        ids, spans, pixels = list(dice.choice(stems)[: dice.randint(0, 60)]), [], []
        for _ in range(dice.choice((0, 0, 1, 1, 2))):
            shade = dice.randrange(3)
            spans.append(span(len(ids), shade))
            pixels.append(picture(shade))
            ids += [0] * IMAGE_TOKENS + [dice.randrange(256) for _ in range(dice.randint(0, 3))]
        ids += [dice.randrange(256) for _ in range(dice.randint(1, 30))]
        drawn = dice.random() < 0.5
        message = ask(
            f"r{n}",
            *ids,
            max_tokens=dice.randint(1, 24),
            temperature=1.0 if drawn else 0.0,
            seed=n if drawn else None,
            stop=(7,),
            spans=tuple(spans),
            logprobs=2,
        )
        made.append(Asked(message, pixels))
    return made


MIXTURE = mixture(24)


@pytest.fixture(scope="module")
def alone(loaded: LoadedModel) -> list[Answer]:
    with bench(loaded, prefix_caching=False, max_num_batched_tokens=512) as desk:
        return [one for asked in MIXTURE for one in answers(desk, [asked])]


def answers(desk: Bench, batch: list[Asked]) -> list[Answer]:
    """Ask all at once and wait for all."""
    for asked in batch:
        desk.loop.submit(asked.message, asked.pixels)
    names = [asked.message.request_id for asked in batch]
    desk.wait(*names)
    got = [(desk.tokens.pop(name), desk.logprobs.pop(name)) for name in names]
    for name in names:
        del desk.reasons[name]
    return got


def stats(desk: Bench) -> EngineStats:
    return desk.wait_until_idle().stats


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
@pytest.mark.parametrize("budget", [40, 512])
def test_company_and_chunks_change_nothing(
    loaded: LoadedModel, alone: list[Answer], budget: int, overlap: bool
) -> None:
    with bench(loaded, max_num_batched_tokens=budget, overlap_steps=overlap) as desk:
        assert answers(desk, MIXTURE) == alone


@pytest.mark.parametrize("chunk", [1, 7, 16])
def test_a_prompt_in_small_pieces_is_the_same_prompt(
    loaded: LoadedModel, alone: list[Answer], chunk: int
) -> None:
    with bench(loaded, max_num_batched_tokens=chunk, prefix_caching=False) as desk:
        assert answers(desk, MIXTURE[:4]) == alone[:4]


@pytest.mark.parametrize("block_size", [1, 5, 64])
def test_the_size_of_blocks_changes_nothing(
    loaded: LoadedModel, alone: list[Answer], block_size: int
) -> None:
    with bench(loaded, block_size=block_size, max_num_batched_tokens=64) as desk:
        assert answers(desk, MIXTURE) == alone


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_a_warm_cache_changes_nothing(
    loaded: LoadedModel, alone: list[Answer], overlap: bool
) -> None:
    with bench(loaded, max_num_batched_tokens=64, overlap_steps=overlap) as desk:
        for _ in range(2):
            assert answers(desk, MIXTURE) == alone
        assert stats(desk).prefix_hits > 0.5 * stats(desk).prefix_queries


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_eviction_and_preemption_change_nothing(
    loaded: LoadedModel, alone: list[Answer], overlap: bool
) -> None:
    block_bytes = loaded.model.allocate_pool(1, 8).size_bytes
    with bench(
        loaded,
        max_num_batched_tokens=64,
        block_size=8,
        kv_cache_memory=24 * block_bytes,
        embedding_cache_bytes=0,
        overlap_steps=overlap,
    ) as desk:
        for _ in range(3):
            assert answers(desk, MIXTURE) == alone
        assert stats(desk).num_preemptions > 0
        assert 0 < stats(desk).prefix_hits < 0.9 * stats(desk).prefix_queries


def test_the_order_and_time_of_arrival_change_nothing(
    loaded: LoadedModel, alone: list[Answer]
) -> None:
    dice = random.Random(1)
    order = list(range(len(MIXTURE)))
    dice.shuffle(order)
    with bench(loaded, max_num_batched_tokens=64) as desk:
        for number in order:
            asked = MIXTURE[number]
            desk.loop.submit(asked.message, asked.pixels)
            if dice.random() < 0.3:
                desk.wait_for_tokens(asked.message.request_id, 1)
        names = [asked.message.request_id for asked in MIXTURE]
        desk.wait(*names)
        assert [(desk.tokens[name], desk.logprobs[name]) for name in names] == alone


def test_the_test_can_see_a_difference(loaded: LoadedModel, alone: list[Answer]) -> None:
    with bench(loaded) as desk:
        other = answers(desk, mixture(24, seed=1))
    assert sum(one != two for one, two in zip(other, alone, strict=True)) > 20


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_many_mixtures_in_engines_of_every_size(loaded: LoadedModel, overlap: bool) -> None:
    for number in range(100):
        dice = random.Random(number)
        batch = mixture(dice.randint(2, 32), seed=number)
        with bench(loaded, prefix_caching=False, max_num_batched_tokens=512) as desk:
            expected = [one for asked in batch for one in answers(desk, [asked])]
        block_size = dice.choice((1, 4, 16))
        block_bytes = loaded.model.allocate_pool(1, block_size).size_bytes
        with bench(
            loaded,
            block_size=block_size,
            kv_cache_memory=dice.randint(190, 600) // block_size * block_bytes,
            max_num_batched_tokens=dice.choice((3, 24, 64, 200)),
            max_num_seqs=dice.choice((2, 8, 64)),
            embedding_cache_bytes=dice.choice((0, 10**6)),
            overlap_steps=overlap,
        ) as desk:
            for _ in range(2):
                assert answers(desk, batch) == expected, f"mixture {number}"
