"""A number has the same activation wherever it stands, with any number of threads."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_threads import torch_threads

from sightline.models.activations import gelu, quick_gelu, silu
from sightline.models.linear import GatedLinear

pytestmark = pytest.mark.engine

KINDS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "silu": (silu, F.silu),
    "gelu": (gelu, F.gelu),
    "quick gelu": (quick_gelu, lambda x: x * torch.sigmoid(1.702 * x)),
    "gated": (GatedLinear.activate, lambda x: F.silu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1]),
}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """A number that cuts rows where no vector ends."""
    with torch_threads(3):
        yield


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_the_same_alone_and_in_company(kind: str, dtype: torch.dtype) -> None:
    ours, theirs = KINDS[kind]
    rows = (3 * torch.randn(101, 1006, generator=torch.Generator().manual_seed(0))).to(dtype)
    together = ours(rows.clone())
    for number, row in enumerate(rows):
        assert torch.equal(ours(row[None].clone())[0], together[number])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(together, theirs(rows), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("activate", [silu, gelu, quick_gelu])
def test_a_device_overwrites_what_it_is_given(activate: Callable[[Tensor], Tensor]) -> None:
    """Nothing more is allocated for it where memory counts."""
    rows = torch.empty(3, 10, device="meta")
    assert activate(rows) is rows


def test_gradients_go_through() -> None:
    rows = torch.randn(3, 10, requires_grad=True)
    GatedLinear.activate(rows).sum().backward()  # type: ignore[no-untyped-call]
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()
