"""What every family promises, asked of each in the same words: a new one adds a row here.

Tiny random checkpoints are pushed through the engine's way of computing: chunks, companions,
packed weights. Golden numbers and oracles are in the families' own tests.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_kernels import attention_backend, needs_the_interpreter
from torch import Tensor, nn

from sightline.models.contract import VisionLanguageModel
from sightline.models.hub_files import read_config
from sightline.models.kv_pool import Segment
from sightline.models.linear import Linear, PatchLinear
from sightline.models.loading import load_model
from sightline.models.packed_weight import can_stream
from sightline.models.packing import pack_linears
from sightline.models.paged_model import PagedModel
from sightline.models.quantization import Scheme, choose_quantization, is_matrix
from sightline.models.quantized import quantize
from sightline.models.qwen2_vision import FramesLinear
from sightline.models.registry import build_model, find_family

pytestmark = pytest.mark.engine

TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "eos_token_id": 2,
}
QWEN2: dict[str, Any] = TEXT | {
    "model_type": "qwen2_vl",
    "tie_word_embeddings": True,
    "vision_config": {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2},
}
QWEN25: dict[str, Any] = TEXT | {
    "model_type": "qwen2_5_vl",
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 64,
        "intermediate_size": 48,
        "num_heads": 2,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    },
}
# A folder of tests/data/golden, or a configuration whose weights are drawn.
FAMILIES: dict[str, str | dict[str, Any]] = {
    "glm4v": "glm4v-a",
    "glm4 text": "glm4v-c-text",
    "qwen_vl": "qwenvl-b-two-images-ntk",
    "qwen2_vl": QWEN2,
    "qwen2_5_vl": QWEN25,
}


@dataclass
class Prompt:
    embeds: Tensor
    positions: Tensor


def make(source: str | dict[str, Any], golden: Path) -> VisionLanguageModel:
    if isinstance(source, str):
        return load_model(golden / source, dtype="float32", device="cpu").model
    torch.manual_seed(3)
    model = build_model(source)
    assert isinstance(model, nn.Module)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
        parameter.requires_grad_(False)
    return model


def quantize_all(model: VisionLanguageModel, scheme: Scheme) -> None:
    assert isinstance(model, nn.Module)
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    for name, kind in choose_quantization(scheme, scheme).schemes(shapes).items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, Linear)
        layer.quantize(quantize(layer.weight.detach(), kind))


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=FAMILIES.keys())
def model(request: pytest.FixtureRequest) -> VisionLanguageModel:
    return make(request.param, Path(__file__).parent.parent / "data" / "golden")


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.inference_mode():
        yield


def prompt(model: VisionLanguageModel, seed: int, num_text: int, *, with_image: bool) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 90, (num_text,), generator=generator)
    embeds, policy = model.embed(ids), model.description.image_policy
    if policy is None or not with_image:
        return Prompt(embeds, model.positions(num_text, []))
    width, height = policy.target_size(150 + 30 * seed, 100)
    pixels = torch.randint(0, 256, (1, height, width, 3), generator=generator)
    rows = model.encode_images(pixels.to(torch.uint8))[0]
    assert len(rows) == policy.count_tokens(width, height)
    embeds = torch.cat((embeds[:4], rows, embeds[4:]))
    spans = [(4, len(rows))]
    positions = model.positions(len(embeds), spans, image_sizes=[(height, width)])
    return Prompt(embeds, positions)


def run(model: VisionLanguageModel, prompts: list[Prompt], chunk: int) -> list[Tensor]:
    """Compute all prompts side by side, `chunk` rows of each at a time, in scattered blocks."""
    block = 16
    sizes = [-(-len(p.embeds) // block) for p in prompts]
    pool = model.allocate_pool(sum(sizes), block)
    free = list(range(sum(sizes)))[::-1]
    blocks = [[free.pop() for _ in range(size)] for size in sizes]
    found: list[list[Tensor]] = [[] for _ in prompts]
    for start in range(0, max(len(p.embeds) for p in prompts), chunk):
        alive = [i for i, p in enumerate(prompts) if start < len(p.embeds)]
        pieces = [prompts[i].embeds[start : start + chunk] for i in alive]
        hidden = model.forward_batch(
            torch.cat(pieces),
            torch.cat([prompts[i].positions[..., start : start + chunk] for i in alive], dim=-1),
            pool,
            [Segment(len(p), start, blocks[i]) for p, i in zip(pieces, alive, strict=True)],
        )
        for i, rows in zip(alive, hidden.split([len(p) for p in pieces]), strict=True):
            found[i].append(rows)
    return [torch.cat(parts) for parts in found]


@pytest.mark.parametrize("chunk", [1, 13, 1000])
def test_chunks_and_company_do_not_change_an_answer(model: VisionLanguageModel, chunk: int) -> None:
    prompts = [
        prompt(model, seed, num_text, with_image=with_image)
        for seed, num_text, with_image in ((1, 20, True), (2, 33, False), (3, 9, True))
    ]
    together = run(model, prompts, chunk)
    for one, found in zip(prompts, together, strict=True):
        alone = model.forward(one.embeds, one.positions)
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=0)
        logits = model.logits(found)
        assert logits.shape == (len(found), model.description.vocab_size)
        assert torch.isfinite(logits).all()


@pytest.mark.timeout(600)  # an interpreter takes its time
@pytest.mark.parametrize("name", ["sdpa", "triton"])
def test_a_gpus_ways_of_attention_change_no_answer(model: VisionLanguageModel, name: str) -> None:
    """Turning by tables included; with decodes, first and later chunks in one batch."""
    assert isinstance(model, PagedModel)
    prompts = [
        prompt(model, seed, num_text, with_image=False) for seed, num_text in ((1, 18), (2, 26))
    ]
    expected = [model.forward(one.embeds, one.positions) for one in prompts]
    model.attention = attention_backend(name)
    try:
        together = run(model, prompts, 17)
    finally:
        model.attention = None
    for found, alone in zip(together, expected, strict=True):
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheme", [None, "int8", "int4"])
@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES.keys())
def test_layers_that_compute_as_one_change_no_answer(
    source: str | dict[str, Any], golden: Path, scheme: Scheme | None
) -> None:
    apart, joined = (make(source, golden) for _ in range(2))
    assert isinstance(joined, PagedModel)
    if scheme is not None:
        for model in (apart, joined):
            quantize_all(model, scheme)
    for layers in joined.can_join():
        assert layers.join()
        assert len(layers.products) == 1
    one = prompt(apart, 1, 20, with_image=True)
    expected = apart.logits(apart.forward(one.embeds, one.positions))
    found = joined.logits(joined.forward(one.embeds, one.positions))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.timeout(600)  # an interpreter takes its time
@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_gpus_kernels_for_few_rows_change_no_answer(
    source: str | dict[str, Any], golden: Path
) -> None:
    needs_the_interpreter()
    from sightline.models.gpu.few_rows import FewRows, Tiles

    model = make(source, golden)
    assert isinstance(model, PagedModel)
    prompts = [prompt(model, seed, seed + 3, with_image=False) for seed in (1, 2)]
    expected = [model.logits(hidden) for hidden in run(model, prompts, 2)]
    for layers in model.can_join():
        layers.join()
    for step in model.decode_products():
        step.layer.few = FewRows(step.layer, Tiles(16, 32, 4, 2))
    found = [model.logits(hidden) for hidden in run(model, prompts, 2)]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_decode_step_reads_each_weight_of_the_language_model_once(
    source: str | dict[str, Any], golden: Path
) -> None:
    """What a GPU's kernels for few rows are offered: four products of a layer, and the head."""
    model = make(source, golden)
    assert isinstance(model, PagedModel)
    for layers in model.can_join():
        layers.join()
    steps = list(model.decode_products())
    assert len(steps) == 4 * len(list(model.decoder_parts())) + 1
    assert [(step.norm is not None, step.has_residual) for step in steps[:4]] == [
        (True, False), (False, True), (True, False), (False, True),
    ]  # fmt: skip
    read = sum(step.layer.in_features * step.layer.out_features for step in steps)
    tower = {id(weight) for weight in model.tower.parameters()} if model.tower else set()
    matrices = {
        id(weight): weight.numel()
        for name, weight in model.named_parameters()
        if is_matrix(name, weight.shape) and id(weight) not in tower
    }
    tied = model.head.weight
    matrices |= {id(tied): tied.numel()} if tied is not None else {}
    assert read == sum(matrices.values())


def test_what_the_front_is_told_is_what_the_tower_does(model: VisionLanguageModel) -> None:
    policy = model.description.image_policy
    if policy is None:
        return
    for size in ((640, 480), (31, 400), (90, 90)):
        width, height = policy.target_size(*size)
        rows = model.encode_images(torch.zeros(2, height, width, 3, dtype=torch.uint8))
        assert rows.shape[1] == policy.count_tokens(width, height)
        assert policy.fewest_tokens <= rows.shape[1] <= policy.most_tokens


def test_only_qwen25_means_pixels_where_it_points(golden: Path) -> None:
    for name, source in FAMILIES.items():
        units = make(source, golden).description.box_units
        assert units == ("pixels" if name == "qwen2_5_vl" else "thousandths")


def test_packed_weights_give_one_row_the_same_bits_in_any_company(
    golden: Path, request: pytest.FixtureRequest
) -> None:
    for source in FAMILIES.values():
        packed = make(source, golden)
        pack_linears(packed)
        mine = prompt(packed, 1, 12, with_image=False)
        others = [prompt(packed, seed, 12 + seed, with_image=False) for seed in range(2, 7)]
        alone = run(packed, [mine], 1)[0]
        together = run(packed, [mine, *others], 1)[0]
        assert torch.equal(alone, together), source
        scores = packed.logits(together)
        assert torch.equal(packed.logits(alone[:1]), scores[:1]), source


@pytest.mark.skipif(not can_stream(), reason="our own kernels were not compiled")
@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES.keys())
def test_all_layers_in_one_call_agree_with_one_after_the_other(
    source: str | dict[str, Any], golden: Path
) -> None:
    packed = make(source, golden)
    assert isinstance(packed, PagedModel)
    for parameter in packed.parameters():
        parameter.data = parameter.data.bfloat16().float()  # what our own kernels take
    pack_linears(packed)
    assert packed.streamed is not None
    mine = prompt(packed, 1, 12, with_image=True)
    others = [prompt(packed, seed, 12 + seed, with_image=False) for seed in range(2, 14)]
    alone = run(packed, [mine], 7)
    together = run(packed, [mine, *others], 7)
    assert torch.equal(together[0], alone[0])
    packed.streamed = None
    one_by_one = run(packed, [mine, *others], 7)
    torch.testing.assert_close(together, one_by_one, atol=2e-5, rtol=1e-4)


def test_a_tied_head_is_packed_beside_the_table_of_tokens(golden: Path) -> None:
    plain, packed = (make(QWEN2, golden) for _ in range(2))
    pack_linears(packed)
    ids = torch.arange(12)
    assert torch.equal(plain.embed(ids), packed.embed(ids))
    hidden = torch.randn(12, 64)
    assert packed.lm_head.weight is None  # type: ignore[attr-defined]
    torch.testing.assert_close(packed.logits(hidden), plain.logits(hidden), atol=1e-5, rtol=0)


def test_names_and_shapes_tell_which_weights_are_of_linear_layers(golden: Path) -> None:
    convolutions = (PatchLinear, FramesLinear)
    for source in FAMILIES.values():
        model = make(source, golden)
        assert isinstance(model, nn.Module)
        for path, module in model.named_modules():
            is_linear = isinstance(module, Linear) and not isinstance(module, convolutions)
            for name, weight in module.named_parameters(prefix=path, recurse=False):
                assert is_matrix(name, weight.shape) == (is_linear and name.endswith(".weight"))


@pytest.mark.parametrize(("scheme", "bound"), [("int8", 0.03), ("int4", 0.3)])
def test_quantised_answers_are_close_and_have_the_same_bits_in_any_company(
    golden: Path, scheme: Scheme, bound: float
) -> None:
    for source in FAMILIES.values():
        plain, quantised = make(source, golden), make(source, golden)
        quantize_all(quantised, scheme)
        pack_linears(quantised)
        one = prompt(plain, 1, 20, with_image=True)
        expected = plain.logits(plain.forward(one.embeds, one.positions))
        alone = run(quantised, [one], 7)[0]
        error = (quantised.logits(alone) - expected).norm() / expected.norm()
        assert 0 < error < bound, source
        others = [prompt(quantised, seed, 12 + seed, with_image=False) for seed in range(2, 5)]
        assert torch.equal(run(quantised, [one, *others], 7)[0], alone), source


def test_config_files_of_the_golden_cases_name_a_family(golden: Path) -> None:
    for folder in golden.iterdir():
        if folder.is_dir():
            assert find_family(read_config(folder))
