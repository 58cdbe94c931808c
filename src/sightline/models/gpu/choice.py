"""Which attention a GPU uses: the first candidate that this machine can run and gets right.

Every candidate has to give, on the device and in the model's own shapes, the results of the one
that always works; what fails is logged with its reason and passed over. So a driver, a compiler or
a torch that does not fit costs speed, never an answer. And it must not take much longer over a long
prompt: a compiler may know a card without knowing its units for products of matrices (Turing's, in
Triton 3.6).
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from sightline.core.engine_options import KernelName
from sightline.core.errors import StartupError
from sightline.models.attention import Turns
from sightline.models.gpu.backend import AttentionBackend
from sightline.models.gpu.gather_attention import GatherBackend
from sightline.models.gpu.trials import KernelsLost, trial
from sightline.models.kv_pool import KVPool, Segment
from sightline.models.paged_batch import PagedBatch
from sightline.models.transfer import DeviceClock

logger = logging.getLogger(__name__)

BLOCK_SIZE = 16
# Decodes of very different lengths and chunks of prefill, one of them the second of its prompt.
CASES = (
    ((1, 0), (1, 15), (1, 77), (1, 800)),
    ((150, 0),),
    ((1, 33), (1, 200), (90, 70), (17, 0)),
)
LONG_PROMPT = ((2048, 0),)
# What decodes gain is worth some loss here, not every one.
SLOWER = 1.5
ROUNDS = 3
TOLERANCES = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def choose_attention(
    wanted: str,
    *,
    num_heads: int,
    num_groups: int,
    head_dim: int,
    dtype: torch.dtype,
    device: torch.device,
) -> AttentionBackend:
    """Return the best backend that works, or `wanted` itself unless that is auto.

    Raises StartupError when the one that was asked for by name does not work here, or the device
    does not any more.
    """
    reference = GatherBackend()
    for name, make in _CANDIDATES.items():
        if wanted not in ("auto", name):
            continue
        backend: AttentionBackend | None = None
        try:
            with trial(_TRIALS[name], device) if name in _TRIALS else nullcontext():
                backend = make()
                desk = _Desk(num_heads, num_groups, head_dim, dtype, device)
                _check(desk, backend, reference)
                if wanted == "auto" and name != reference.name and has_clock(device):
                    _compare(*(desk.seconds(one, LONG_PROMPT) for one in (backend, reference)))
        except KernelsLost:
            raise
        except Exception as error:  # whatever a compiler or a driver may raise
            if backend is not None:
                backend.withdraw()
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            if wanted == name:
                raise StartupError(
                    f"The attention backend {name!r} does not work here ({reason})."
                ) from error
            logger.info("attention by %s is passed over (%s)", name, reason[:200])
            continue
        logger.info("attention by %s", name)
        return backend
    raise StartupError(
        f"There is no attention backend {wanted!r}; choose auto, {', '.join(_CANDIDATES)}."
    )


def _varlen() -> AttentionBackend:
    from sightline.models.gpu.varlen_attention import VarlenBackend

    return VarlenBackend()


def _triton() -> AttentionBackend:
    from sightline.models.gpu.triton_attention import TritonBackend

    return TritonBackend()


# Our own kernels come first: they turn, store and attend in two launches a layer.
_CANDIDATES: dict[str, Callable[[], AttentionBackend]] = {
    "triton": _triton,
    "varlen": _varlen,
    "sdpa": GatherBackend,
}
# torch's own is not on trial: it has to work.
_TRIALS: dict[str, KernelName] = {"triton": "attention", "varlen": "varlen"}


class WrongResult(Exception):
    """A kernel that runs, but computes something else."""


class TooSlow(Exception):
    """A kernel that is right, but whose time is better spent otherwise."""


class _Desk:
    """Lets backends attend to random numbers in a model's shapes."""

    def __init__(
        self,
        num_heads: int,
        num_groups: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._num_heads, self._num_groups, self._head_dim = num_heads, num_groups, head_dim
        self._device = device
        self._random = torch.Generator().manual_seed(0)
        self.dtype = dtype

    @torch.inference_mode()
    def attend(
        self, backends: Sequence[AttentionBackend], case: Sequence[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return what each one mixes, and keys and values as it leaves them."""
        segments, num_blocks = _segments(case)
        shape = (1, num_blocks, BLOCK_SIZE, self._num_groups, self._head_dim)
        keys, values = self._draw(*shape), self._draw(*shape)
        num_rows = sum(num_new for num_new, _ in case)
        heads = self._draw(num_rows, self._num_heads + 2 * self._num_groups, self._head_dim)
        cosines, sines = (self._draw(num_rows, self._head_dim) for _ in range(2))
        rotate = _AnyRotation(cosines, sines, self._num_groups)
        results = []
        for one in backends:
            pool = KVPool(keys.clone(), values.clone())
            attend = one.over(pool, PagedBatch.of(pool, segments, num_rows))
            mixed = attend.turning(0, heads, self._num_groups, rotate)
            results.append((mixed, pool.keys, pool.values))
        return results

    @torch.inference_mode()
    def seconds(self, backend: AttentionBackend, case: Sequence[tuple[int, int]]) -> float:
        """Return the device's time for a layer, the best of a few."""
        segments, num_blocks = _segments(case)
        shape = (1, num_blocks, BLOCK_SIZE, self._num_groups, self._head_dim)
        pool = KVPool(self._draw(*shape), self._draw(*shape))
        num_rows = sum(num_new for num_new, _ in case)
        heads = self._num_heads, self._num_groups, self._num_groups
        rows = [self._draw(num_rows, number, self._head_dim) for number in heads]
        attend = backend.over(pool, PagedBatch.of(pool, segments, num_rows))
        attend(0, *rows)
        best = float("inf")
        for _ in range(ROUNDS):
            clock = DeviceClock()
            attend(0, *rows)
            best = min(best, clock.wait())
        return best

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._random).to(device=self._device, dtype=self.dtype)


def _check(desk: _Desk, backend: AttentionBackend, reference: AttentionBackend) -> None:
    """Raise whatever goes wrong, `WrongResult` included."""
    tolerance = TOLERANCES[desk.dtype]
    for case in CASES:
        for expected, found in zip(*desk.attend((reference, backend), case), strict=True):
            if not torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance):
                worst = (found.float() - expected.float()).abs().max().item()
                raise WrongResult(f"off by {worst:.3g} from torch's own attention")


def has_clock(device: torch.device) -> bool:
    return device.type == "cuda"


def _compare(seconds: float, reference_s: float) -> None:
    """Raise `TooSlow` if that is so."""
    if seconds > SLOWER * reference_s:
        raise TooSlow(
            f"{1e3 * seconds:.2f} ms for a layer of a long prompt, "
            f"where torch's own attention takes {1e3 * reference_s:.2f} ms"
        )


def _segments(case: Sequence[tuple[int, int]]) -> tuple[list[Segment], int]:
    """Return segments whose blocks lie in another order than their slots."""
    counts = [-(-(num_new + num_cached) // BLOCK_SIZE) for num_new, num_cached in case]
    free = list(range(sum(counts)))
    segments = []
    for (num_new, num_cached), count in zip(case, counts, strict=True):
        segments.append(Segment(num_new, num_cached, [free.pop() for _ in range(count)]))
    return segments, sum(counts)


class _AnyRotation:
    """Turns neighbours by cosines and sines [T, Dh] that no angle has: the check needs none."""

    def __init__(self, cosines: Tensor, sines: Tensor, num_groups: int) -> None:
        self._turns = Turns(cosines, sines, are_neighbours=True)
        self._num_groups = num_groups

    def turns(self, dtype: torch.dtype) -> Turns:
        return self._turns

    def apart(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        turning, value = heads[:, : -self._num_groups], heads[:, -self._num_groups :]
        swapped = turning.reshape(*turning.shape[:-1], -1, 2).flip(-1).flatten(-2).float()
        cosines, sines = self._turns.cosines[:, None].float(), self._turns.sines[:, None].float()
        turned = (turning.float() * cosines + swapped * sines).to(heads.dtype)
        return turned[:, : -self._num_groups], turned[:, -self._num_groups :], value
