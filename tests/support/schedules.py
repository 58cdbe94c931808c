"""Prompts with and without pictures, pushed through a model in random pieces and random company."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from sightline.models.contract import VisionLanguageModel
from sightline.models.kv_pool import KVPool, Segment


@dataclass(frozen=True)
class Prompt:
    """A sequence's rows `[S, D]` and their positions."""

    embeds: Tensor
    positions: Tensor


def make_prompt(
    model: VisionLanguageModel, seed: int, num_tokens: int, image_at: int | None, *, num_ids: int
) -> Prompt:
    """Draw `num_tokens` ids below `num_ids`, and a picture in front of the token `image_at`."""
    generator = torch.Generator().manual_seed(seed)
    embeds = model.embed(torch.randint(0, num_ids, (num_tokens,), generator=generator))
    spans: list[tuple[int, int]] = []
    policy = model.description.image_policy
    if image_at is not None and policy is not None:
        shape = (1, policy.size, policy.size, 3)
        pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        rows = model.encode_images(pixels)[0]
        start = min(image_at, num_tokens)
        embeds = torch.cat((embeds[:start], rows, embeds[start:]))
        spans = [(start, len(rows))]
    return Prompt(embeds, model.positions(len(embeds), spans))


def empty_pool(model: VisionLanguageModel, num_blocks: int, block_size: int) -> KVPool:
    """Return a pool full of NaN: whoever looks at a slot that nobody wrote will show it."""
    pool = model.allocate_pool(num_blocks, block_size)
    pool.keys.fill_(torch.nan)
    pool.values.fill_(torch.nan)
    return pool


def run_alone(model: VisionLanguageModel, prompt: Prompt) -> Tensor:
    """Return the hidden states of a prompt that is prefilled whole, in an engine without others."""
    num_slots = len(prompt.embeds)
    pool = empty_pool(model, 1, -(-num_slots // 16) * 16)
    return model.forward_batch(prompt.embeds, prompt.positions, pool, [Segment(num_slots, 0, (0,))])


def run_in_company(
    model: VisionLanguageModel, prompts: Sequence[Prompt], block_size: int, random: Random
) -> list[Tensor]:
    """Push all prompts through in random pieces, several in each batch, in random blocks."""
    sizes = [-(-len(prompt.embeds) // block_size) for prompt in prompts]
    pool = empty_pool(model, sum(sizes) + 2, block_size)
    free = random.sample(range(pool.num_blocks), pool.num_blocks)
    blocks = [[free.pop() for _ in range(size)] for size in sizes]
    done = [0] * len(prompts)
    found: list[list[Tensor]] = [[] for _ in prompts]
    while waiting := [i for i, prompt in enumerate(prompts) if done[i] < len(prompt.embeds)]:
        batch = random.sample(waiting, random.randint(1, len(waiting)))
        sizes = [
            min(random.choice((1, 1, 1, 3, 7, 16, 99)), len(prompts[i].embeds) - done[i])
            for i in batch
        ]
        pieces = [
            (prompts[i], slice(done[i], done[i] + size))
            for i, size in zip(batch, sizes, strict=True)
        ]
        hidden = model.forward_batch(
            torch.cat([prompt.embeds[rows] for prompt, rows in pieces]),
            torch.cat([prompt.positions[rows] for prompt, rows in pieces]),
            pool,
            [Segment(size, done[i], blocks[i]) for i, size in zip(batch, sizes, strict=True)],
        )
        for i, part in zip(batch, torch.split(hidden, sizes), strict=True):
            done[i] += len(part)
            found[i].append(part)
    return [torch.cat(parts) for parts in found]
