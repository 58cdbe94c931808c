"""Which of torch's fused attention kernels a vision tower uses on a GPU.

A picture of GLM-4V is 6,401 rows that all attend to each other. Written out, the scores of a layer
would take gigabytes and most of the time, so torch's plain path is never allowed: the tower runs
inside a context that only knows the kernel that was checked, and was the fastest, at start.
"""

import inspect
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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
ROWS_CHECKED = 100  # of the first, and of the last: tiles end there
ROUNDS = 3
TOLERANCE = 0.03


class TowerShape(NamedTuple):
    """The attention of a vision tower: heads, width of one, rows of the largest picture.

    `is_fixed` says that all pictures have that many rows.
    """

    num_heads: int
    head_dim: int
    num_rows: int
    is_fixed: bool = True


class PictureAttention:
    """The kernels that work, the fastest first; `allowed` is the context to encode pictures in."""

    def __init__(self, kernels: list[SDPBackend]) -> None:
        self.kernels = kernels

    @contextmanager
    def allowed(self) -> Iterator[None]:
        with _only(self.kernels):
            yield


@torch.inference_mode()
def choose_picture_attention(
    shape: TowerShape, dtype: torch.dtype, device: torch.device
) -> PictureAttention:
    """Return the fastest of the kernels that work. Raises StartupError if none does."""
    reasons: list[str] = []
    times: dict[SDPBackend, float] = {}
    for kernel in KERNELS:
        if kernel is SDPBackend.CUDNN_ATTENTION and not shape.is_fixed:
            continue  # it is built anew for every number of rows, which takes longer than they do
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
    found = ", ".join(f"{kernel.name} {1000 * t:.2f} ms" for kernel, t in times.items())
    best = sorted(times, key=times.__getitem__)
    logger.info("pictures are attended to by %s (a layer: %s)", best[0].name, found)
    for reason in reasons:
        logger.info("passed over: %s", reason)
    return PictureAttention(best)


def _only(kernels: list[SDPBackend]) -> AbstractContextManager[None]:
    """Allow these kernels alone, in this order where torch can be told one."""
    if "set_priority" in inspect.signature(sdpa_kernel).parameters:
        return sdpa_kernel(kernels, set_priority=True)
    return sdpa_kernel(kernels[:1])


def _check(kernel: SDPBackend, shape: TowerShape, dtype: torch.dtype, device: torch.device) -> None:
    """Raise whatever goes wrong, at the size at which it will be used: libraries plan for sizes."""
    query, key, value = _drawn(shape, dtype, device)
    with _only([kernel]):
        found = F.scaled_dot_product_attention(query, key, value)
    for rows in (slice(None, ROWS_CHECKED), slice(-ROWS_CHECKED, None)):
        scores = query[:, :, rows].float() @ key.float().transpose(-1, -2)
        expected = (scores * shape.head_dim**-0.5).softmax(-1) @ value.float()
        off = (found[:, :, rows].float() - expected).norm(dim=-1)
        if not bool((off <= TOLERANCE * expected.norm(dim=-1)).all()):
            raise RuntimeError("its result is wrong")


def _seconds(
    kernel: SDPBackend, shape: TowerShape, dtype: torch.dtype, device: torch.device
) -> float:
    """Return the time of one layer's attention at full size, the best of a few."""
    query, key, value = _drawn(shape, dtype, device)
    best = float("inf")
    with _only([kernel]):
        for _ in range(ROUNDS):
            clock = DeviceClock()
            F.scaled_dot_product_attention(query, key, value)
            best = min(best, clock.wait())
    return best


def _drawn(shape: TowerShape, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """Return queries, keys and values `[1, H, P, Dh]` as they lie behind one projection."""
    random = torch.Generator(device).manual_seed(0)
    size = 1, shape.num_rows, 3, shape.num_heads, shape.head_dim
    rows = torch.randn(size, generator=random, dtype=dtype, device=device)
    return rows.transpose(1, 3).unbind(2)
