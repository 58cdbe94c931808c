"""What the engine promises, of every family: exact answers whatever is around a request.

The families are those of `tests/models/test_families.py`; a row there is a row here. Answers are
compared with `==`, in fp32 and (the long tier) bf16: tokens, log-probabilities, and what is drawn
with a seed.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from engine_bench import NUM_TOKENS, Bench, ask, bench
from tests.models.test_families import FAMILIES, make
from torch import Tensor, nn

from sightline.core.engine import TokenLogprobs
from sightline.core.wire import Generate, WireSpan
from sightline.engine.sampler import Sampled, SamplingRow, sample_rows
from sightline.models.contract import VisionLanguageModel
from sightline.models.kv_pool import Segment
from sightline.models.loading import LoadedModel

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("one_thread")]

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NUM_IDS = 90  # ids that mean text in every family
BLOCK = 16

Answer = tuple[list[int], list[TokenLogprobs]]


@dataclass(frozen=True)
class Asked:
    message: Generate
    pixels: list[bytes]


@dataclass(frozen=True)
class Family:
    """`alone` are the answers of every request by itself: no cache, its prompt in one piece."""

    loaded: LoadedModel
    asked: list[Asked]
    alone: list[Answer]

    def bench(self, **options: object) -> Bench:
        model_len = max(len(one.message.token_ids) for one in self.asked) + 64
        return bench(self.loaded, max_model_len=model_len, **options)


@pytest.fixture(
    scope="module", params=["float32", pytest.param("bfloat16", marks=pytest.mark.long)]
)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    found: torch.dtype = getattr(torch, request.param)
    return found


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=FAMILIES.keys())
def family(request: pytest.FixtureRequest, dtype: torch.dtype) -> Family:
    model = make(request.param, GOLDEN)
    assert isinstance(model, nn.Module)
    loaded = LoadedModel(
        model=model.to(dtype),
        description=model.description,
        device=torch.device("cpu"),
        dtype=dtype,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    family = Family(loaded, mixture(model), [])
    with family.bench(prefix_caching=False, max_num_batched_tokens=4096) as desk:
        family.alone.extend(one for asked in family.asked for one in answers(desk, [asked]))
    return family


def mixture(model: VisionLanguageModel) -> list[Asked]:
    """Texts and pictures of several sizes, greedy and drawn, that often begin alike."""
    dice = random.Random(5)
    text = [dice.randrange(NUM_IDS) for _ in range(40)]
    made = []
    for n, sizes in enumerate(([], [0], [1], [0], [0, 1], [], [1, 2], [2], [])):
        ids, spans, pixels = text[: dice.choice((3, 20, 40))], [], []
        if model.description.image_policy is not None:
            for size in sizes:
                seen = picture(model, size, start=len(ids))
                spans.append(seen[0])
                pixels.append(seen[1])
                ids = [*ids, *[0] * seen[0].length, dice.randrange(NUM_IDS)]
        ids = [*ids, *(dice.randrange(NUM_IDS) for _ in range(dice.randint(1, 20)))]
        message = ask(
            f"r{n}",
            *ids,
            max_tokens=dice.randint(4, 16),
            temperature=1.0 if n % 3 == 2 else 0.0,
            seed=n,
            spans=tuple(spans),
            logprobs=2,
        )
        made.append(Asked(message, pixels))
    return made


def picture(model: VisionLanguageModel, number: int, *, start: int) -> tuple[WireSpan, bytes]:
    """Numbers 0 and 2 have one size, so that both can be encoded in one batch."""
    policy = model.description.image_policy
    assert policy is not None
    width, height = policy.target_size(*((140, 90), (60, 170))[number % 2])
    length = policy.count_tokens(width, height)
    assert length is not None
    span = WireSpan(
        start=start,
        length=length,
        width=width,
        height=height,
        digest=bytes([number]) * 32,
        original_width=width,
        original_height=height,
    )
    return span, random.Random(number).randbytes(3 * width * height)


def answers(desk: Bench, batch: list[Asked]) -> list[Answer]:
    for asked in batch:
        desk.loop.submit(asked.message, asked.pixels)
    names = [asked.message.request_id for asked in batch]
    desk.wait(*names)
    got = [(desk.tokens.pop(name), desk.logprobs.pop(name)) for name in names]
    for name in names:
        assert desk.reasons.pop(name) in ("stop", "length")
    return got


@torch.inference_mode()
def score(model: VisionLanguageModel, asked: Asked, answer: list[int]) -> list[Sampled | Exception]:
    """Compute prompt and answer in one piece; return what would be said at every place of it."""
    message = asked.message
    num_prompt = len(message.token_ids)
    ids = torch.tensor([*message.token_ids, *answer[:-1]])
    embeds = model.embed(ids)
    for span, raw in zip(message.spans, asked.pixels, strict=True):
        pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
        rows = model.encode_images(pixels.view(1, span.height, span.width, 3))[0]
        embeds[span.start : span.start + span.length] = rows
    positions = model.positions(
        len(ids),
        [(span.start, span.length) for span in message.spans],
        num_prompt=num_prompt,
        image_sizes=[(span.height, span.width) for span in message.spans],
    )
    pool = model.allocate_pool(1, -(-len(ids) // BLOCK) * BLOCK)
    hidden = model.forward_batch(embeds, positions, pool, [Segment(len(ids), 0, (0,))])
    logits: Tensor = model.logits(hidden[num_prompt - 1 :])
    rows_of = [
        SamplingRow(
            params=message.params, seed=message.params.seed or 0, prompt=(), answer=answer[:number]
        )
        for number in range(len(answer))
    ]
    return sample_rows(logits, rows_of, num_tokens=NUM_TOKENS)


def test_decoding_says_what_prefilling_prompt_and_answer_scores(family: Family) -> None:
    for asked, (tokens, logprobs) in zip(family.asked, family.alone, strict=True):
        scored = score(family.loaded.model, asked, tokens)
        assert [one.token_id for one in scored if isinstance(one, Sampled)] == tokens
        assert [(one.logprob, one.top_logprobs) for one in scored if isinstance(one, Sampled)] == [
            (one.logprob, one.top) for one in logprobs
        ]


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_company_chunks_and_a_warm_cache_change_nothing(family: Family, overlap: bool) -> None:
    with family.bench(max_num_batched_tokens=40, overlap_steps=overlap) as desk:
        for _ in range(2):
            assert answers(desk, family.asked) == family.alone
        stats = desk.wait_until_idle().stats
        assert stats.prefix_hits > 0.4 * stats.prefix_queries
    with family.bench(prefix_caching=False, max_num_batched_tokens=4096) as desk:
        assert answers(desk, family.asked[::-1]) == family.alone[::-1]


@pytest.mark.parametrize("overlap", [False, True], ids=["plain", "overlapped"])
def test_eviction_and_preemption_change_nothing(family: Family, overlap: bool) -> None:
    block_bytes = family.loaded.model.allocate_pool(1, 8).size_bytes
    longest = max(
        len(one.message.token_ids) + one.message.params.max_tokens for one in family.asked
    )
    with family.bench(
        max_num_batched_tokens=64,
        block_size=8,
        kv_cache_memory=(-(-longest // 8) + 2) * block_bytes,
        embedding_cache_bytes=0,
        overlap_steps=overlap,
    ) as desk:
        for _ in range(2):
            assert answers(desk, family.asked) == family.alone
        stats = desk.wait_until_idle().stats
        assert stats.num_preemptions > 0
        assert (stats.kv_slots_used, stats.num_embedding_leases) == (0, 0)
