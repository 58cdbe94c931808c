"""Our own attention among all rows of a picture, beside torch's."""

import pytest
import torch
import torch.nn.functional as F
from cpu_kernels import needs_bfloat16_products
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_threads import torch_threads

from sightline.models.cpu.picture_attention import attend_to_all, takes
from sightline.models.dense_attention import attend_to_all as attend

pytestmark = [
    pytest.mark.engine,
    needs_bfloat16_products,
]


def heads_of(items: int, rows: int, heads: int, width: int) -> list[Tensor]:
    """Queries, keys and values side by side, as a linear layer makes them."""
    random = torch.Generator().manual_seed(items * 7 + rows * 1009 + heads * 31 + width)
    made = torch.randn(items, rows, 3, heads, width, generator=random)
    return list(made.unbind(2))


def expected_of(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    wide = (each.bfloat16().double().transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(*wide).transpose(1, 2)


@given(
    items=st.integers(1, 5),
    rows=st.integers(1, 70) | st.sampled_from([256, 1025]),
    heads=st.integers(1, 5),
    width=st.sampled_from([2, 16, 26, 30, 64, 80, 104, 112, 128, 256]),
    threads=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_shape_is_right(items: int, rows: int, heads: int, width: int, threads: int) -> None:
    made = heads_of(items, rows, heads, width)
    with torch_threads(threads):
        found = attend_to_all(*made)
    # bfloat16 has eight bits, and a result is a mean.
    torch.testing.assert_close(found.double(), expected_of(*made), atol=0.02, rtol=0.02)
    error = (found.double() - expected_of(*made)).norm() / expected_of(*made).norm()
    assert error < 0.01


@pytest.mark.parametrize("rows", [1536, 1537, 3100])
def test_of_very_many_rows_later_ones_may_weigh_more_or_less(rows: int) -> None:
    query, key, value = heads_of(1, rows, 2, 16)
    for loudest in (3, rows - 2):
        keys = key.clone()
        keys[0, loudest] *= 30.0
        keys[0, loudest // 2] = 100.0 * query[0, 5]  # what else there is does not count beside it
        found, expected = (f(query, keys, value) for f in (attend_to_all, expected_of))
        torch.testing.assert_close(found.double(), expected, atol=0.05, rtol=0.05)
        torch.testing.assert_close(found[0, 5], value[0, loudest // 2], atol=0.02, rtol=0.02)


def test_a_picture_has_the_same_bits_alone_beside_others_and_with_more_threads() -> None:
    made = heads_of(5, 300, 3, 80)
    found = []
    for threads in (1, 2, 3, 7):
        with torch_threads(threads):
            found.append(attend_to_all(*made))
            found.append(
                torch.cat([attend_to_all(*(h[i : i + 1] for h in made)) for i in range(5)])
            )
    assert all(torch.equal(each, found[0]) for each in found)


def test_views_in_any_layout_are_read_as_what_they_are() -> None:
    made = heads_of(2, 40, 3, 32)
    plain = attend_to_all(*(each.contiguous() for each in made))
    assert torch.equal(attend_to_all(*made), plain)
    turned = (each.transpose(-1, -2).contiguous().transpose(-1, -2) for each in made)
    assert torch.equal(attend_to_all(*turned), plain)


def test_what_is_not_a_number_spoils_its_head_of_its_picture_and_no_other() -> None:
    made = heads_of(2, 50, 2, 64)
    clean = attend_to_all(*made)
    made[1][0, 7, 1, 3] = torch.nan
    spoilt = attend_to_all(*made)
    assert spoilt[0, :, 1].isnan().all()
    assert torch.equal(spoilt[0, :, 0], clean[0, :, 0])
    assert torch.equal(spoilt[1], clean[1])


def test_what_the_kernel_is_not_made_for_is_left_to_torch() -> None:
    made = heads_of(1, 20, 2, 16)
    exact = attend(*made, rounds_rows=False)
    torch.testing.assert_close(exact.double(), expected_of(*made), atol=0.02, rtol=0.02)
    assert not torch.equal(exact, attend(*made, rounds_rows=True))
    wide = torch.zeros(1, 20, 2, 258)
    for odd in (made[0].bfloat16(), made[0][..., :15], made[0].to("meta"), wide):
        assert not takes(odd)
    with pytest.raises(ValueError, match="do not fit"):
        attend_to_all(made[0], made[1][:, :7], made[2])
