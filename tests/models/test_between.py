"""What stands between products: norms and turned heads by our own kernels."""

import pytest
import torch

from sightline.models.cpu.between import can_turn, layer_norm, turn_halves
from sightline.models.cpu.compiled import kernels
from sightline.models.linear import LayerNorm

pytestmark = pytest.mark.skipif(kernels() is None, reason="no kernels for this processor")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_layer_norm_is_right_and_gives_a_row_the_same_bits_in_any_company(threads: int) -> None:
    torch.manual_seed(0)
    norm = LayerNorm(96, 1e-5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = (torch.randn(3, 400, 96) + 1) * torch.logspace(-4, 3, 400)[:, None]
    residual = torch.randn(3, 400, 96)
    expected, expected_sum = norm(x), norm.plus(x, residual)
    norm.kernel = layer_norm
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, found_sum = norm(x), norm.plus(x, residual)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found_sum, expected_sum, atol=1e-5, rtol=1e-5)
    for row in (0, 17, 399):
        assert torch.equal(norm(x[:1, row]), found[:1, row])
        assert torch.equal(norm.plus(x[:1, row], residual[:1, row]), found_sum[:1, row])
    turned_around = x.transpose(0, 1)
    assert torch.equal(norm(turned_around), found.transpose(0, 1))
    x[0, 5, 3] = torch.nan
    assert norm(x)[0, 5].isnan().all()
    assert torch.equal(norm(x)[1:], found[1:])


def test_a_residual_of_another_shape_is_refused() -> None:
    weight = torch.ones(32)
    with pytest.raises(ValueError, match="not meant"):
        layer_norm(torch.ones(4, 32), weight, weight, 1e-5, torch.ones(1, 32))


@pytest.mark.parametrize("head_dim", [2, 6, 32, 80, 128])
@pytest.mark.parametrize("items", [1, 3])
def test_heads_are_turned_where_they_lie_and_what_stands_behind_stays(
    head_dim: int, items: int
) -> None:
    torch.manual_seed(0)
    rows = torch.randn(items, 300, 3 * 4 * head_dim)
    angles = torch.randn(300, head_dim)
    cosines, sines = angles.cos(), angles.sin()
    heads = rows.unflatten(-1, (12, head_dim))
    first, second = heads[:, :, :8].chunk(2, dim=-1)
    swapped = torch.cat((-second, first), dim=-1)
    expected = heads[:, :, :8] * cosines[:, None] + swapped * sines[:, None]
    found = rows.clone()
    assert can_turn(found, cosines, sines)
    turn_halves(found, cosines, sines, num_heads=8)
    found_heads = found.unflatten(-1, (12, head_dim))
    torch.testing.assert_close(found_heads[:, :, :8], expected)
    assert torch.equal(found_heads[:, :, 8:], heads[:, :, 8:])
    alone = rows[:1].clone()
    turn_halves(alone, cosines, sines, num_heads=8)
    assert torch.equal(alone, found[:1])


def test_heads_that_do_not_fit_their_angles_are_refused() -> None:
    rows, angles = torch.zeros(1, 5, 24), torch.zeros(5, 8)
    for wrong, heads in ((torch.zeros(4, 8), 2), (torch.zeros(5, 7), 2), (angles, 4)):
        with pytest.raises(ValueError, match="do not turn"):
            turn_halves(rows, wrong, wrong, num_heads=heads)
    assert not can_turn(rows.transpose(1, 2), angles)
    assert not can_turn(rows.bfloat16(), angles)
