"""The bundled model in bfloat16: the same tokens whatever is around a request, in any process.

Random weights seldom have two almost equal tokens next to each other; a trained model often does.
The reference is every request alone in this process, with no cache, its prompt in one piece.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline.backends.inline import InlineEngine
from sightline.backends.process import ProcessEngine
from sightline.core.engine import Engine, FinishReason, TokenLogprobs
from sightline.core.engine_options import EngineOptions
from sightline.core.prompt import Image, ImageSpan, Prompt
from sightline.core.sampling import SamplingParams
from sightline.plan import bundled_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

QUESTIONS = (
    "这是什么?",
    "What is this?",
    "How many red circles are there in this picture?",
    "Describe the picture.",
    "图中有几个三角形?",
)
# Blocks of keys and values for the longest request and little more.
TIGHT_TOKENS = 160

Answer = tuple[tuple[int, ...], tuple[TokenLogprobs, ...], FinishReason | None]


@dataclass(frozen=True)
class Asked:
    prompt: Prompt
    params: SamplingParams


def folder() -> Path:
    found = bundled_model()
    assert found is not None
    return found.path


@asynccontextmanager
async def engine_of(*, in_child: bool = False, **options: object) -> AsyncIterator[Engine]:
    from sightline.engine.build import build_engine

    made = EngineOptions(
        model=str(folder()),
        dtype="bfloat16",
        num_threads=1,
        max_model_len=300,
        **options,  # type: ignore[arg-type]
    )
    engine: ProcessEngine | InlineEngine
    if in_child:
        engine = ProcessEngine(made)
    else:
        engine = InlineEngine(lambda progress: build_engine(made, progress))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def mixture(number: int, size: int, image_tokens: int) -> list[Asked]:
    from sightline.models.tokenizer_files import load_tokenizer

    tokenizer = load_tokenizer(folder())
    special = tokenizer.special_tokens
    dice = random.Random(7)
    made = []
    for n in range(number):
        ids, images = [special["[gMASK]"], special["<sop>"], special["<|user|>"]], []
        ids += tokenizer.encode("\n")
        if n % 3:
            shown = picture(dice.randrange(4), size)
            images.append(ImageSpan(image=shown, start=len(ids), length=image_tokens))
            ids += [special["<|endoftext|>"]] * image_tokens
        ids += [*tokenizer.encode(dice.choice(QUESTIONS)), special["<|assistant|>"]]
        params = SamplingParams(
            max_tokens=dice.randint(16, 40),
            temperature=0.8 if n % 4 == 3 else 0.0,
            seed=n,
            logprobs=3,
        )
        made.append(Asked(Prompt(token_ids=tuple(ids), images=tuple(images)), params))
    return made


def picture(number: int, size: int) -> Image:
    """A square of one colour on another: something the model has words for."""
    fore, back = ((200, 30, 30), (30, 30, 200), (30, 160, 60), (240, 200, 40))[number], (230,) * 3
    middle = range(size // 4, 3 * size // 4)
    pixels = b"".join(
        bytes(fore if x in middle and y in middle else back)
        for y in range(size)
        for x in range(size)
    )
    return Image(
        pixels=pixels,
        width=size,
        height=size,
        digest=bytes([number]) * 32,
        original_width=size,
        original_height=size,
    )


async def answer(engine: Engine, asked: Asked) -> Answer:
    """Return what was said: not when, nor in what pieces, which hang on how fast we read."""
    deltas = [delta async for delta in engine.generate(asked.prompt, asked.params, "r")]
    token_ids = tuple(token for delta in deltas for token in delta.token_ids)
    logprobs = tuple(one for delta in deltas for one in delta.logprobs)
    assert len(logprobs) == len(token_ids) > 0
    return token_ids, logprobs, deltas[-1].finish_reason


async def answers(engine: Engine, batch: list[Asked], *, order: int = 0) -> list[Answer]:
    """Ask all at once, in an order of its own."""
    places = list(range(len(batch)))
    random.Random(order).shuffle(places)
    found = await asyncio.gather(*(answer(engine, batch[place]) for place in places))
    return [found[places.index(place)] for place in range(len(batch))]


async def same_everywhere(number: int, settings: list[dict[str, object]]) -> None:
    async with engine_of(prefix_caching=False, max_num_batched_tokens=4096) as engine:
        policy = engine.info.image_policy
        assert policy is not None
        size, _ = policy.target_size(1, 1)
        tokens = policy.count_tokens(size, size)
        assert tokens is not None
        batch = mixture(number, size, tokens)
        alone = [await answer(engine, asked) for asked in batch]
        assert len({str(one) for one in alone}) > number // 3  # not all say the same
        assert await answers(engine, batch) == alone
    for options in settings:
        async with engine_of(**options) as engine:  # type: ignore[arg-type]
            for turn in range(2):  # the second time with a warm cache
                assert await answers(engine, batch, order=turn) == alone, options
            stats = await engine.stats()
            assert (stats.num_running, stats.kv_slots_used, stats.num_embedding_leases) == (0, 0, 0)
            if "kv_cache_memory" in options:
                assert stats.num_preemptions > 0


def tight(block_size: int) -> int:
    """Return the bytes of a pool in which not all can stay."""
    import torch

    from sightline.models.loading import load_model

    model = load_model(folder(), dtype="bfloat16", device="cpu").model
    assert isinstance(model, torch.nn.Module)
    return TIGHT_TOKENS // block_size * model.allocate_pool(1, block_size).size_bytes


def test_tokens_are_the_same_in_company_in_a_child_and_after_preemption() -> None:
    settings: list[dict[str, object]] = [
        {"in_child": True, "max_num_batched_tokens": 48, "overlap_steps": True},
        {"kv_cache_memory": tight(8), "block_size": 8, "max_num_batched_tokens": 64},
    ]
    asyncio.run(same_everywhere(12, settings))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_tokens_are_the_same_in_engines_of_every_kind() -> None:
    settings: list[dict[str, object]] = [
        {"in_child": in_child, "overlap_steps": overlap, **sizes}
        for in_child in (False, True)
        for overlap in (False, True)
        for sizes in (
            {"max_num_batched_tokens": 7},
            {"max_num_batched_tokens": 512, "max_num_seqs": 5},
            {"block_size": 8, "kv_cache_memory": tight(8), "max_num_batched_tokens": 100},
            {"block_size": 1, "embedding_cache_bytes": 0},
        )
    ]
    asyncio.run(same_everywhere(60, settings))
