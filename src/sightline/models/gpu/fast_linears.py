"""Which kernels a GPU's linear layers use, decided at start by what is right and by the clock.

Libraries read the weights of a product with one row at two thirds to nine tenths of what the memory
gives, depending on shape, card and version. So for every shape of the model our kernel for few
rows is compared with the library on the model's own weights, layer after layer as in a step, and
used only where it gives the same numbers in less time.

Importing this module needs Triton.
"""

import logging
import time
from collections import defaultdict

import torch
import triton
from torch import Tensor

from sightline.models.gpu import linear_kernels as kernels
from sightline.models.gpu.few_rows import MAX_ROWS, FewRows, StoredWeight, Tiles
from sightline.models.linear import GatedLinear, Norm
from sightline.models.paged_model import DecodeProduct as Step
from sightline.models.paged_model import PagedModel
from sightline.models.transfer import DeviceClock, record_graph

logger = logging.getLogger(__name__)

ROWS_TIMED = (1, 8)
ROWS_CHECKED = (1, 5, MAX_ROWS)
MAX_TIMED = 40
ROUNDS = 3
BUDGET_S = 60.0
TOLERANCE = 0.02
# What the kernel must gain to be chosen: less could be chance.
GAIN = 1.02


# The last one is for cards with 100 KB of shared memory (8.6, 8.9, 12.0), where a gated layer has
# no room for the others.
CANDIDATES = (
    Tiles(16, 512, 4, 4),
    Tiles(32, 256, 4, 4),
    Tiles(64, 128, 4, 4),
    Tiles(32, 128, 4, 4),
)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    width = x.shape[-1]
    x = x.contiguous()
    out = torch.empty_like(x)
    kernels.rms_norm[x.numel() // width,](
        x, weight, out, eps, WIDTH=width, BLOCK=triton.next_power_of_2(width), num_warps=8
    )
    return out


def silu_times(x: Tensor) -> Tensor:
    """Return silu of the first half of the columns times the second half."""
    width = x.shape[-1] // 2
    x = x.contiguous()
    out = x.new_empty(*x.shape[:-1], width)
    block = 1024
    kernels.silu_times[out.numel() // width, triton.cdiv(width, block)](
        x, out, WIDTH=width, BLOCK=block, num_warps=4
    )
    return out


@torch.inference_mode()
def install(model: PagedModel) -> None:
    """Give the layers of `model`, on a GPU, the kernels that are right and fast.

    Raises whatever goes wrong with the small kernels; a shape that few rows do not work for is
    left to the library.
    """
    norms = [module for module in model.modules() if isinstance(module, Norm)]
    layers = [module for module in model.modules() if isinstance(module, GatedLinear)]
    joined = [each.joined for each in model.can_join()]
    gated = [*layers, *(layer for layer in joined if isinstance(layer, GatedLinear))]
    if norms:
        x = _rows(norms[0].weight, 3, len(norms[0].weight))
        _same(rms_norm(x, norms[0].weight, norms[0].eps), norms[0](x))
    if gated:
        x = _rows(model.token_table.weight, 3, gated[0].out_features)
        _same(silu_times(x), GatedLinear.activate(x))
    for norm in norms:
        norm.kernel = rms_norm
    for layer in gated:
        layer.kernel = silu_times
    by_shape: dict[tuple[object, ...], list[Step]] = defaultdict(list)
    for step in model.decode_products():
        weight = StoredWeight.of(step.layer)
        if weight is not None and (weight.bits < 16 or weight.values.dtype == model.dtype):
            shape = tuple(weight.values.shape)
            kind = type(step.layer), weight.bits, shape
            by_shape[*kind, step.norm is None, step.has_residual].append(step)
    began = time.monotonic()
    for steps in by_shape.values():
        if time.monotonic() - began > BUDGET_S:
            logger.info("the time to compare kernels is used up; the rest is left to the library")
            return
        _choose(steps, model.token_table.weight)


def _choose(steps: list[Step], like: Tensor) -> None:
    """Give the layers of one shape the fastest tiles, unless the library is faster.

    Rows are `like` that tensor.
    """
    timed = steps[:MAX_TIMED]
    first = timed[0].layer
    weight = StoredWeight.of(first)
    assert weight is not None
    name = f"{type(first).__name__} ({first.out_features}, {first.in_features}), {weight.bits} bits"

    def seconds() -> float:
        return sum(_seconds(timed, rows, like) for rows in ROWS_TIMED)

    best = library_time = seconds()
    expected = [_run(timed[0], rows, like) for rows in ROWS_CHECKED]
    chosen: Tiles | None = None
    for tiles in CANDIDATES:
        try:
            for step in timed:
                step.layer.few = FewRows(step.layer, tiles)
            for rows, right in zip(ROWS_CHECKED, expected, strict=True):
                _same(_run(timed[0], rows, like), right)
            taken = seconds()
        except Exception as error:  # whatever a compiler or a driver may raise
            logger.info("few rows of %s: %s is passed over (%s)", name, tiles, error)
            continue
        if taken * GAIN < best:
            best, chosen = taken, tiles
    for step in steps:
        step.layer.few = None if chosen is None else FewRows(step.layer, chosen)
    per_call = 1e6 / len(timed) / len(ROWS_TIMED)
    logger.info(
        "few rows of %s: library %.1f us, %s",
        name,
        per_call * library_time,
        "kept" if chosen is None else f"{chosen} {per_call * best:.1f} us",
    )


def _run(step: Step, num_rows: int, like: Tensor) -> Tensor:
    """Compute a layer for random rows as the model does."""
    layer = step.layer
    x = _rows(like, num_rows, layer.in_features)
    return _compute(step, x, _rows(like, num_rows, layer.out_features))


def _compute(step: Step, x: Tensor, residual: Tensor) -> Tensor:
    if step.has_residual:
        return step.layer.plus(x, residual)
    out: Tensor = step.layer(x) if step.norm is None else step.layer.normed(x, step.norm)
    return out


def _seconds(steps: list[Step], num_rows: int, like: Tensor) -> float:
    """Return the device's time for all layers, one after another, without the host's launches."""
    layer = steps[0].layer
    x = _rows(like, num_rows, layer.in_features)
    residual = _rows(like, num_rows, layer.out_features)
    for step in steps[:2]:
        _compute(step, x, residual)
    torch.cuda.synchronize()
    graph, _ = record_graph(lambda: [_compute(step, x, residual) for step in steps])
    best = float("inf")
    for _ in range(ROUNDS):
        clock = DeviceClock()
        graph.replay()
        best = min(best, clock.wait())
    return best


def _rows(weight: Tensor, number: int, width: int) -> Tensor:
    random = torch.Generator().manual_seed(number)
    return torch.randn(number, width, generator=random).to(weight)


def _same(found: Tensor, expected: Tensor) -> None:
    worst = (found.float() - expected.float()).abs().max()
    if not bool(worst <= TOLERANCE * (1 + expected.float().abs().max())):
        raise RuntimeError(f"off by {float(worst):.3g} from the library")
