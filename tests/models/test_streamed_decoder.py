"""All layers in one call of our own kernel: the same bits as layer by layer."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch
from cpu_kernels import needs_own_bfloat16
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schedules import empty_pool, make_prompt, run_in_company
from torch import Tensor
from torch_threads import torch_threads

from sightline.engine.pulse import Pulse
from sightline.models.cpu import decoder
from sightline.models.cpu.compiled import kernels
from sightline.models.cpu.decoder import StreamedDecoder
from sightline.models.glm_4v_9b import Glm4v
from sightline.models.kv_pool import Segment
from sightline.models.linear import Linear
from sightline.models.loading import load_model
from sightline.models.packing import pack_linears
from sightline.models.quantization import choose_quantization

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NUM_IDS = 190  # of the golden models, ids that mean text

pytestmark = [pytest.mark.engine, needs_own_bfloat16]


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", autouse=True, params=[1, 3], ids=lambda n: f"{n} threads")
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch_threads(request.param):
        yield


def packed(folder: str, dtype: str = "bfloat16", scheme: str | None = None) -> Glm4v:
    quantization = choose_quantization(scheme, None)
    path = GOLDEN / folder
    model = load_model(path, dtype=dtype, device="cpu", quantization=quantization).model
    assert isinstance(model, Glm4v)
    pack_linears(model)
    return model


@pytest.fixture(scope="module", params=[None, "int8", "int4"], ids=["bf16", "int8", "int4"])
def model(request: pytest.FixtureRequest) -> Glm4v:
    if request.param and not kernels().has_whole_products:  # type: ignore[union-attr]
        pytest.skip("this processor has no products of bytes")
    return packed("glm4v-a", scheme=request.param)


@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    block_size=st.sampled_from([1, 8, 16, 48]),
    seed=st.integers(0, 2**32),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_all_layers_at_once_compute_what_one_after_the_other_do(
    model: Glm4v, lengths: list[int], block_size: int, seed: int
) -> None:
    prompts = [
        make_prompt(model, seed + i, n, None, num_ids=NUM_IDS) for i, n in enumerate(lengths)
    ]
    at_once = run_in_company(model, prompts, block_size, Random(seed))
    streamed, model.streamed = model.streamed, None
    one_by_one = run_in_company(model, prompts, block_size, Random(seed))
    model.streamed = streamed
    assert streamed is not None
    assert all(torch.equal(a, b) for a, b in zip(at_once, one_by_one, strict=True))


@pytest.mark.parametrize("wanted", [[], [11], [0], [3, 4, 9], [0, 5, 11], list(range(12))], ids=str)
def test_rows_that_nobody_wants_only_leave_their_keys_and_values(
    model: Glm4v, wanted: list[int]
) -> None:
    rows, positions = model.embed(torch.arange(12)), torch.arange(12)
    segments = [Segment(7, 0, (0,)), Segment(5, 0, (1,))]
    pools = [empty_pool(model, 2, 8) for _ in range(2)]
    everything = model.forward_batch(rows, positions, pools[0], segments)
    found = model.forward_batch(rows, positions, pools[1], segments, wanted=wanted)
    assert torch.equal(found[wanted], everything[wanted])
    assert found.isfinite().all()
    torch.testing.assert_close(pools[0].keys, pools[1].keys, atol=0, rtol=0, equal_nan=True)
    torch.testing.assert_close(pools[0].values, pools[1].values, atol=0, rtol=0, equal_nan=True)
    rows[1, 0] = torch.nan
    spoilt = model.forward_batch(rows, positions, pools[1], segments, wanted=wanted)
    assert not spoilt[1].isfinite().any()


@pytest.mark.parametrize("wanted", [[12], [-1], [4, 3], [3, 3]], ids=str)
def test_wanted_rows_that_do_not_exist_or_do_not_ascend_are_refused(
    model: Glm4v, wanted: list[int]
) -> None:
    pool = empty_pool(model, 2, 8)
    with pytest.raises(ValueError, match="ascending rows below 12"):
        model.forward_batch(
            model.embed(torch.arange(12)), torch.arange(12), pool,
            [Segment(7, 0, (0,)), Segment(5, 0, (1,))], wanted=wanted,
        )  # fmt: skip


def test_the_rows_that_go_in_are_left_as_they_are(model: Glm4v) -> None:
    rows = model.embed(torch.arange(5))
    before = rows.clone()
    hidden = model.forward_batch(
        rows, torch.arange(5), empty_pool(model, 1, 8), [Segment(5, 0, (0,))]
    )
    assert torch.equal(rows, before)
    assert not torch.equal(hidden, before)


def test_a_pass_that_takes_long_shows_again_and_again_that_it_is_alive(
    model: Glm4v, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the engine would be taken for hung and replaced, in the middle of a long prompt."""
    pulse = Pulse()
    pulse.follow(model)

    def run(num_rows: int) -> tuple[Tensor, int]:
        rows, pool = model.embed(torch.arange(num_rows)), empty_pool(model, 1, 16)
        before = pulse.count
        found = model.forward_batch(
            rows, torch.arange(num_rows), pool, [Segment(num_rows, 0, (0,))]
        )
        return found, pulse.count - before

    at_once, beats_at_once = run(9)
    per_row = sum(
        layer.in_features * layer.out_features
        for layer in model.transformer.encoder.layers[0].modules()
        if isinstance(layer, Linear)
    )
    monkeypatch.setattr(decoder, "MOST_AT_ONCE", 9 * 2 * per_row)
    by_two, beats_by_two = run(9)
    monkeypatch.setattr(decoder, "MOST_AT_ONCE", 1)
    one_by_one, beats_one_by_one = run(9)
    assert model.config.num_layers == 3
    assert (beats_at_once, beats_by_two, beats_one_by_one) == (1, 2, 3)
    assert torch.equal(at_once, by_two)
    assert torch.equal(at_once, one_by_one)


def test_a_row_that_is_not_finite_spoils_no_other(model: Glm4v) -> None:
    def run(rows: Tensor) -> Tensor:
        segments = [Segment(1, 0, (0,)), Segment(3, 0, (1,))]
        positions = torch.tensor([0, 0, 1, 2])
        return model.forward_batch(rows, positions, empty_pool(model, 2, 8), segments)

    rows = model.embed(torch.arange(4))
    clean = run(rows)
    rows[0, 3] = torch.nan
    spoilt = run(rows)
    assert spoilt[0].isnan().all()
    assert torch.equal(spoilt[1:], clean[1:])


def test_a_decoder_with_a_layer_for_another_kernel_is_not_taken() -> None:
    assert packed("glm4v-a", "float32").streamed is None  # bfloat16 does not hold these weights


def test_norms_that_differ_and_shapes_that_do_not_fit_are_not_taken() -> None:
    model = packed("glm4v-a")
    shape = model.num_heads, model.kv_shape.num_groups, model.kv_shape.head_dim
    assert StreamedDecoder.fit(model.decoder_parts(), *shape) is not None
    assert StreamedDecoder.fit([], *shape) is None
    num_heads, num_groups, head_dim = shape
    assert StreamedDecoder.fit(model.decoder_parts(), num_heads, 2 * num_groups, head_dim) is None
    assert StreamedDecoder.fit(model.decoder_parts(), 2 * num_heads, num_groups, head_dim) is None
    parts = next(model.decoder_parts())
    parts.mlp_norm.eps *= 2
    assert StreamedDecoder.fit(model.decoder_parts(), *shape) is None
    parts.mlp_norm.eps /= 2
    parts.attention_norm.kernel = None
    assert StreamedDecoder.fit(model.decoder_parts(), *shape) is None


def test_rows_of_another_pass_are_taken_layer_by_layer() -> None:
    """Without a cache there are batches of sequences, and more than one may be asked for."""
    model = packed("glm4v-c-text")
    assert model.streamed is not None
    tokens = torch.arange(12).view(2, 6)
    hidden = model(model.embed(tokens), torch.arange(6))
    assert hidden.shape == (2, 6, model.config.hidden_size)
