"""Every family on a GPU, with the kernels that an engine chooses there, against fp32 on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_families import FAMILIES, Prompt, make, prompt, run
from torch import Tensor, nn

from sightline.core.engine_options import EngineOptions
from sightline.engine.gpu_setup import choose_kernels
from sightline.models.contract import VisionLanguageModel
from sightline.models.loading import LoadedModel
from sightline.models.paged_model import PagedModel

# Kernels are compiled when they are first met, which takes a second or two for each.
pytestmark = [pytest.mark.gpu, pytest.mark.engine, pytest.mark.timeout(600)]

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
# Relative to the largest number that is expected.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 0.03, torch.bfloat16: 0.08}


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.inference_mode():
        yield


def on_the_gpu(model: VisionLanguageModel, dtype: torch.dtype) -> PagedModel:
    assert isinstance(model, nn.Module)
    loaded = LoadedModel(
        model=model.to("cuda", dtype),
        description=model.description,
        device=torch.device("cuda", 0),
        dtype=dtype,
        num_parameters=0,
    )
    choose_kernels(EngineOptions(model="tiny"), loaded)
    assert isinstance(loaded.model, PagedModel)
    return loaded.model


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    worst = (found.float().cpu() - expected).abs().max() / expected.abs().max()
    assert worst <= TOLERANCES[dtype]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES.keys())
def test_prompts_and_answers_are_what_they_are_on_a_cpu(
    source: str | dict[str, Any], dtype: torch.dtype
) -> None:
    """Seven rows at once are a prompt's, one of each is a step of answers."""
    plain, fast = make(source, GOLDEN), on_the_gpu(make(source, GOLDEN), dtype)
    asked = [prompt(plain, seed, 9 + seed, with_image=seed == 1) for seed in (1, 2, 3)]
    sent = [Prompt(one.embeds.to("cuda", dtype), one.positions.cuda()) for one in asked]
    for chunk in (7, 1):
        hidden = torch.cat(run(plain, asked, chunk)), torch.cat(run(fast, sent, chunk))
        assert_close(hidden[1], hidden[0], dtype)
        assert_close(fast.logits(hidden[1][-3:]), plain.logits(hidden[0][-3:]), dtype)


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_tower_sees_what_it_sees_on_a_cpu(
    source: str | dict[str, Any], dtype: torch.dtype
) -> None:
    plain = make(source, GOLDEN)
    policy = plain.description.image_policy
    if policy is None:
        return
    fast = on_the_gpu(make(source, GOLDEN), dtype)
    for size in ((150, 100), (90, 260)):
        width, height = policy.target_size(*size)
        random = torch.Generator().manual_seed(width)
        pixels = torch.randint(0, 256, (2, height, width, 3), generator=random).to(torch.uint8)
        assert_close(fast.encode_images(pixels.cuda()), plain.encode_images(pixels), dtype)
