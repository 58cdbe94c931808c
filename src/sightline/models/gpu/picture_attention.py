"""Which of torch's fused attention kernels a vision tower uses on a GPU.

A picture of GLM-4V is 6,401 rows that all attend to each other. Written out, the scores of a layer
would take gigabytes and most of the time, so torch's plain path is never allowed: the tower runs
inside a context that only knows the kernel that was checked, and was the fastest, at start.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from sightline.core.errors import StartupError
from sightline.models.transfer import DeviceClock

logger = logging.getLogger(__name__)

KERNELS = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
)
ROWS_CHECKED = 200
ROUNDS = 3
TOLERANCE = 0.03


class TowerShape(NamedTuple):
    """The attention of a vision tower: heads, width of one, rows of the largest picture."""

    num_heads: int
    head_dim: int
    num_rows: int


class PictureAttention:
    """The kernel that was chosen; `allowed` is the context to encode pictures in."""

    def __init__(self, kernel: SDPBackend) -> None:
        self.kernel = kernel

    @contextmanager
    def allowed(self) -> Iterator[None]:
        with sdpa_kernel([self.kernel]):
            yield


@torch.inference_mode()
def choose_picture_attention(
    shape: TowerShape, dtype: torch.dtype, device: torch.device
) -> PictureAttention:
    """Return the fastest of the kernels that work. Raises StartupError if none does."""
    reasons: list[str] = []
    times: dict[SDPBackend, float] = {}
    for kernel in KERNELS:
        try:
            _check(kernel, shape, dtype, device)
            times[kernel] = _seconds(kernel, shape, dtype, device)
        except Exception as error:  # whatever a library may raise
            first_line = (str(error).splitlines() or [""])[0]
            reasons.append(f"{kernel.name}: {first_line or type(error).__name__}")
    if not times:
        raise StartupError(
            "No fused attention kernel of torch works for this model's vision tower on this GPU "
            f"({'; '.join(reasons)})."
        )
    best = min(times, key=times.__getitem__)
    found = ", ".join(f"{kernel.name} {1000 * t:.2f} ms" for kernel, t in times.items())
    logger.info("pictures are attended to by %s (a layer: %s)", best.name, found)
    for reason in reasons:
        logger.info("passed over: %s", reason)
    return PictureAttention(best)


def _check(kernel: SDPBackend, shape: TowerShape, dtype: torch.dtype, device: torch.device) -> None:
    random = torch.Generator().manual_seed(0)
    rows = (1, shape.num_heads, min(shape.num_rows, ROWS_CHECKED), shape.head_dim)
    query, key, value = (torch.randn(rows, generator=random) for _ in range(3))
    scores = (query @ key.transpose(-1, -2)) * shape.head_dim**-0.5
    expected = scores.softmax(-1) @ value
    query, key, value = (x.to(device=device, dtype=dtype) for x in (query, key, value))
    with sdpa_kernel([kernel]):
        found = F.scaled_dot_product_attention(query, key, value).float().cpu()
    if not torch.allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE):
        raise RuntimeError("its result is wrong")


def _seconds(
    kernel: SDPBackend, shape: TowerShape, dtype: torch.dtype, device: torch.device
) -> float:
    """Return the time of one layer's attention at full size, the best of a few."""
    rows = (1, shape.num_rows, shape.num_heads, shape.head_dim)
    heads: Tensor = torch.randn(rows, dtype=dtype, device=device).transpose(1, 2)
    best = float("inf")
    with sdpa_kernel([kernel]):
        for _ in range(ROUNDS):
            clock = DeviceClock()
            F.scaled_dot_product_attention(heads, heads, heads)
            best = min(best, clock.wait())
    return best
