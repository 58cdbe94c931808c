"""A row's bits do not depend on its company: alone, in any batch, in any cut, in any blocks."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from schedules import make_prompt, run_alone, run_in_company
from torch import Tensor, nn
from torch_threads import torch_threads

from sightline.models.cpu.streamed_weight import StreamedWeight
from sightline.models.glm_4v_9b import Glm4v, Glm4vConfig
from sightline.models.linear import Linear, TiedLinear, round_up_rows
from sightline.models.loading import load_model
from sightline.models.packed_weight import (
    HalfWeight,
    OneDnnWeight,
    PackedWeight,
    can_pack,
    can_pack_half,
    can_stream,
    is_faster_in_float32,
    pack_weight,
)
from sightline.models.packing import pack_linears
from sightline.models.quantization import choose_quantization
from sightline.models.quantized_kernels import DequantizingKernel

pytestmark = pytest.mark.engine

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NUM_IDS = 190  # of the golden models, ids that mean text

# (pieces of text, where a picture stands in it)
SHAPES = st.lists(st.tuples(st.integers(1, 60), st.none() | st.integers(0, 20)), min_size=1,
                  max_size=5)  # fmt: skip
BLOCK_SIZES = st.sampled_from([1, 8, 16, 32, 48])


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=[1, 3], ids=lambda n: f"{n} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch_threads(request.param):
        yield


def packed(folder: str, dtype: str, scheme: str | None = None) -> Glm4v:
    model = load_model(
        GOLDEN / folder,
        dtype=dtype,
        device="cpu",
        quantization=choose_quantization(scheme, scheme),
    ).model
    assert isinstance(model, Glm4v)
    pack_linears(model)
    return model


@pytest.fixture(
    scope="module",
    params=[
        ("float32", None),
        ("bfloat16", None),
        ("float32", "int8"),
        ("bfloat16", "int8"),
        ("float32", "int4"),
    ],
    ids=lambda param: " ".join(filter(None, param)),
)
def model(request: pytest.FixtureRequest) -> Glm4v:
    return packed("glm4v-a", *request.param)


def assert_same_alone_and_in_company(
    model: Glm4v, shapes: list[tuple[int, int | None]], block_size: int, random: Random
) -> None:
    prompts = [
        make_prompt(model, seed, length, image_at, num_ids=NUM_IDS)
        for seed, (length, image_at) in enumerate(shapes)
    ]
    for prompt, found in zip(
        prompts, run_in_company(model, prompts, block_size, random), strict=True
    ):
        alone = run_alone(model, prompt)
        assert torch.equal(found, alone)
        assert torch.equal(model.logits(found[-1:]), model.logits(alone)[-1:])


@pytest.mark.usefixtures("threads")
@given(shapes=SHAPES, block_size=BLOCK_SIZES, random=st.randoms(use_true_random=False))
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_a_sequence_has_the_same_bits_alone_and_in_any_company_cut_and_blocks(
    model: Glm4v, shapes: list[tuple[int, int | None]], block_size: int, random: Random
) -> None:
    assert_same_alone_and_in_company(model, shapes, block_size, random)


@pytest.mark.skipif(
    not is_faster_in_float32(torch.bfloat16), reason="this processor multiplies bfloat16 rows"
)
def test_bfloat16_weights_meet_wider_rows_and_keep_narrow_keys() -> None:
    narrow, exact = (
        load_model(GOLDEN / "glm4v-a", dtype="bfloat16", device="cpu").model for _ in range(2)
    )
    assert isinstance(narrow, Glm4v)
    assert isinstance(exact, Glm4v)
    exact.float()
    wide = packed("glm4v-a", "bfloat16")
    assert wide.allocate_pool(1, 16).keys.dtype == narrow.dtype == torch.bfloat16
    assert not wide.pads_rows

    def scores(model: Glm4v) -> Tensor:
        prompt = make_prompt(model, 3, 40, 5, num_ids=NUM_IDS)
        return model.logits(run_alone(model, prompt)).float()

    expected = scores(exact)
    wide_error, narrow_error = (
        float((scores(model) - expected).abs().max()) for model in (wide, narrow)
    )
    assert wide_error < narrow_error / 2


def test_company_that_shows_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: one part in a million of the number of rows, and the test above fails."""
    model = packed("glm4v-a", "float32")
    plain = Linear.forward

    def forward(self: Linear, x: Tensor) -> Tensor:
        return plain(self, x) * (1 + 1e-6 * len(x))

    monkeypatch.setattr(Linear, "forward", forward)
    with pytest.raises(AssertionError):
        assert_same_alone_and_in_company(model, [(20, None), (30, 4)], 16, Random(1))


@pytest.mark.parametrize("folder", ["glm4v-b-rope500-kv4", "glm4v-c-text"])
def test_the_other_shapes_of_the_family_have_the_same_bits_in_company(folder: str) -> None:
    model = packed(folder, "float32")
    assert_same_alone_and_in_company(model, [(40, 3), (17, None), (5, 0)], 16, Random(2))


def test_wide_layers_and_long_prompts_have_the_same_bits_in_company() -> None:
    """More than the golden models have: one head per group, and more keys than one kernel block."""
    torch.manual_seed(5)
    model = Glm4v(
        Glm4vConfig(
            hidden_size=320,
            num_layers=1,
            num_heads=5,
            num_groups=5,
            head_dim=64,
            ffn_hidden_size=1000,
            vocab_size=500,
            norm_eps=1e-6,
            has_qkv_bias=True,
            rope_ratio=1.0,
            max_positions=2048,
            eos_token_ids=(0,),
        )
    )
    pack_linears(model)
    prompts = [make_prompt(model, seed, n, None, num_ids=500) for seed, n in enumerate((700, 90))]
    found = run_in_company(model, prompts, 16, Random(1))
    for prompt, rows in zip(prompts, found, strict=True):
        assert torch.equal(rows, run_alone(model, prompt))


@pytest.mark.usefixtures("threads")
def test_a_picture_has_the_same_bits_alone_and_beside_others(model: Glm4v) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (5, 112, 112, 3), generator=generator, dtype=torch.uint8)
    together = model.encode_images(pixels)
    for number in range(5):
        assert torch.equal(model.encode_images(pixels[number : number + 1])[0], together[number])
    assert torch.equal(model.encode_images(pixels[1:4]), together[1:4])


def test_scores_of_a_row_do_not_depend_on_the_rows_beside_it(model: Glm4v) -> None:
    hidden = torch.randn(70, 64, generator=torch.Generator().manual_seed(1)).to(model.dtype)
    many = model.logits(hidden)
    for rows in (1, 2, 7, 33):
        assert torch.equal(model.logits(hidden[:rows]), many[:rows])
    assert torch.equal(model.logits(hidden[5]), many[5])


LAYERS: list[Callable[[Linear, Tensor, Tensor], Tensor]] = [
    lambda layer, x, other: layer(x),
    lambda layer, x, other: layer.silu(x),
    lambda layer, x, other: layer.gelu(x),
    lambda layer, x, other: layer.quick_gelu(x),
    lambda layer, x, other: layer.times(x, other),
    lambda layer, x, other: layer.plus(x, other),
]


def one_dnn(weight: Tensor) -> PackedWeight:
    if not can_pack(weight.dtype):
        pytest.skip("no oneDNN kernel on this processor")
    return OneDnnWeight(weight)


def half(weight: Tensor) -> PackedWeight:
    if not can_pack_half(weight.dtype):
        pytest.skip("no kernel for weights of two bytes on this processor")
    packed = HalfWeight.fit(weight)
    assert packed is not None
    return packed


def streamed(weight: Tensor) -> PackedWeight:
    if not can_stream():
        pytest.skip("our own kernel was not compiled, or not for this processor")
    packed = StreamedWeight.fit(weight)
    assert packed is not None
    return packed


@pytest.mark.parametrize("pack", [one_dnn, half, streamed])
@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(
    "call", LAYERS, ids=["alone", "silu", "gelu", "quick gelu", "times", "plus"]
)
def test_a_packed_layer_computes_what_its_twin_does(
    call: Callable[[Linear, Tensor, Tensor], Tensor],
    pack: Callable[[Tensor], PackedWeight],
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_bias: bool,
) -> None:
    monkeypatch.setattr(
        "sightline.models.linear.pack_weight", lambda weight, dtype, **how: pack(weight)
    )
    torch.manual_seed(0)
    layer = Linear(40, 24, bias=has_bias)
    layer.weight.copy_(layer.weight.bfloat16())
    x, other = torch.randn(3, 5, 40), torch.randn(3, 5, 24)
    expected = call(layer, x, other)
    assert layer.pack(torch.float32)
    torch.testing.assert_close(call(layer, x, other), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("pack", [one_dnn, half, streamed])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("inputs", "outputs"), [(320, 1000), (896, 4864), (33, 7)])
def test_a_packed_layer_gives_a_row_the_same_bits_in_any_company(
    pack: Callable[[Tensor], PackedWeight], dtype: torch.dtype, inputs: int, outputs: int
) -> None:
    torch.manual_seed(0)
    packed = pack(torch.randn(outputs, inputs).bfloat16().to(dtype))
    x, other = torch.randn(300, inputs).to(dtype), torch.randn(300, outputs).to(dtype)
    everyone = [packed.apply(x, None, "swish"), packed.apply(x, None, "gelu"),
                packed.times(x, None, other), packed.plus(x, None, other)]  # fmt: skip
    for start, end in ((0, 1), (17, 18), (3, 5), (100, 107), (0, 150), (129, 300)):
        rows, beside = x[start:end], other[start:end]
        found = [packed.apply(rows, None, "swish"), packed.apply(rows, None, "gelu"),
                 packed.times(rows, None, beside), packed.plus(rows, None, beside)]  # fmt: skip
        for few, all_ in zip(found, everyone, strict=True):
            assert torch.equal(few, all_[start:end])


@pytest.fixture
def no_kernels_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where there was no compiler."""
    monkeypatch.setattr("sightline.models.packed_weight.can_stream", lambda: False)


@pytest.mark.usefixtures("no_kernels_of_our_own")
def test_two_bytes_are_taken_only_for_weights_that_fit_them() -> None:
    if not can_pack_half(torch.float32):
        pytest.skip("no kernel for weights of two bytes on this processor")
    from_a_checkpoint = (torch.randn(64, 256) * 0.02).bfloat16().float()
    assert isinstance(pack_weight(from_a_checkpoint, torch.float32), HalfWeight)
    assert not isinstance(pack_weight(torch.randn(64, 256), torch.float32), HalfWeight)
    assert HalfWeight.fit(torch.tensor([[1.0, 2.0**-30 * 1.171875]])) is not None
    for odd in (torch.zeros(4, 4), torch.tensor([[1.0, torch.inf]]), torch.tensor([[torch.nan]])):
        assert HalfWeight.fit(odd) is None


def test_our_kernel_takes_what_bfloat16_holds_and_nothing_else() -> None:
    if not can_stream():
        pytest.skip("our own kernel was not compiled, or not for this processor")
    from_a_checkpoint = torch.randn(64, 256).bfloat16()
    for fits in (from_a_checkpoint, from_a_checkpoint.float(), torch.zeros(4, 4)):
        assert isinstance(pack_weight(fits, torch.float32), StreamedWeight)
    for odd in (torch.randn(64, 256), torch.randn(64, 256).half()):
        assert StreamedWeight.fit(odd) is None


def test_weights_of_two_bytes_lose_nothing_of_a_checkpoint() -> None:
    weight = (torch.randn(64, 256) * 0.02).bfloat16().float()
    rows = torch.eye(256)
    for pack in (half, streamed):
        torch.testing.assert_close(pack(weight).apply(rows, None), weight.T, atol=0, rtol=0)


def test_what_sees_many_rows_is_left_to_the_kernel_that_is_faster_for_them() -> None:
    if not can_pack_half(torch.float32) or not can_pack(torch.float32):
        pytest.skip("there are no two kernels on this processor")
    model = packed("glm4v-a", "float32")
    assert model.tower is not None
    kinds = {
        module: type(module._packed) for module in model.modules() if isinstance(module, Linear)
    }
    assert {kinds[layer] for layer in model.tower.modules() if layer in kinds} == {OneDnnWeight}


def test_weights_that_are_packed_while_they_are_read_are_packed_to_the_same(
    tmp_path: Path,
) -> None:
    """bfloat16 files and fp32 rows, as on most machines."""
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "glm4v-a", folder)
    tensors = {name: t.bfloat16() for name, t in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    models = []
    for packed in (False, True):
        model = load_model(folder, dtype="float32", device="cpu", packed=packed).model
        assert isinstance(model, Glm4v)
        stored = torch.bfloat16 if packed else torch.float32
        assert model.token_table.weight.dtype == stored
        assert model.dtype == model.embed(torch.tensor([1])).dtype == torch.float32
        pack_linears(model, torch.float32)
        models.append(model)
    prompt = make_prompt(models[0], 1, 40, 3, num_ids=NUM_IDS)
    first, second = (model.logits(run_alone(model, prompt)) for model in models)
    assert torch.equal(first, second)


def test_a_head_without_a_kernel_shares_its_table_in_the_rows_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sightline.models.linear.pack_weight", lambda *_, **__: None)
    table = nn.Embedding(40, 8, dtype=torch.bfloat16)
    head = TiedLinear(table)
    with torch.inference_mode():
        expected = F.linear(torch.ones(3, 8), table.weight.float())
        pack_linears(nn.ModuleList([table, head]), torch.float32)
        assert torch.allclose(head(torch.ones(3, 8)), expected)


def test_tiles_stand_in_where_the_packed_kernel_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sightline.models.linear.pack_weight", lambda *_, **__: None)
    model = packed("glm4v-a", "float32")
    assert isinstance(model.transformer.output_layer.weight, nn.Parameter)
    assert_same_alone_and_in_company(model, [(40, 3), (17, None), (5, 0)], 16, Random(2))


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_quantised_layers_without_a_kernel_have_the_same_bits_in_company(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.models.linear.choose_kernel", DequantizingKernel)
    model = packed("glm4v-a", "float32", scheme)
    assert_same_alone_and_in_company(model, [(40, 3), (17, None), (5, 0)], 16, Random(2))


def test_numbers_of_rows_are_few_and_never_one() -> None:
    rounded = [round_up_rows(n) for n in range(1, 2049)]
    assert len(set(rounded)) < 90
    assert min(rounded) == 2
    assert all(n <= r <= max(2, n * 2, n + 4) and r <= n + 32 for n, r in enumerate(rounded, 1))
