"""Which kernels multiply with quantised weights on a GPU: those that are right, by the clock."""

import logging
import threading
from contextlib import nullcontext
from functools import lru_cache

import torch

from sightline.models.gpu.trials import KernelsLost, trial
from sightline.models.quantization import Scheme
from sightline.models.quantized import QuantizedWeight, quantize
from sightline.models.quantized_kernels import (
    FASTEST_FIRST,
    Kernel,
    dtype_of_rows,
    keeps_its_promise,
)
from sightline.models.transfer import DeviceClock, record_graph

logger = logging.getLogger(__name__)

# A layer of a model of 9 billion parameters.
WIDTH = 4096
# A question with a picture, and an answer of a few sentences to it.
PROMPT_ROWS, NUM_STEPS = 1024, 64
ROUNDS = 3

# Layers are given their kernels on several threads, and only one of them may use the clock.
_choosing = threading.Lock()


def fastest_first(scheme: Scheme, device: torch.device) -> tuple[type[Kernel], ...]:
    """Return the kernels that work on `device`, by what an answer takes. Measured once."""
    with _choosing, torch.cuda.device(device):
        return ranked(scheme, device)


@lru_cache
@torch.inference_mode()
def ranked(scheme: Scheme, device: torch.device) -> tuple[type[Kernel], ...]:
    """Try and time all kernels on the current device."""
    random = torch.Generator().manual_seed(0)
    weight = quantize(torch.randn(WIDTH, WIDTH, generator=random).to(device), scheme)
    seconds: dict[type[Kernel], float] = {}
    for kernel in candidates():
        try:
            with nullcontext() if kernel in FASTEST_FIRST else trial("quantized", device):
                if kernel.suits(weight) and keeps_its_promise(kernel, scheme, device):
                    seconds[kernel] = seconds_of_an_answer(kernel, weight)
        except KernelsLost:
            raise
        except Exception as error:  # whatever a compiler or a driver may raise
            logger.info("%s is passed over (%s)", kernel.__name__, error)
    found = tuple(sorted(seconds, key=seconds.__getitem__))
    told = (f"{kernel.__name__} {1e3 * seconds[kernel]:.2f} ms" for kernel in found)
    logger.info("%s on %s: %s", scheme, device, ", ".join(told) or "no kernel works")
    return found


def candidates() -> tuple[type[Kernel], ...]:
    try:
        from sightline.models.gpu.quantized_linears import StoredKernel
    except Exception as error:  # no Triton, or one that does not fit
        logger.info("our own kernels are passed over (%s: %s)", type(error).__name__, error)
        return FASTEST_FIRST
    return (StoredKernel, *FASTEST_FIRST)


def seconds_of_an_answer(kernel: type[Kernel], weight: QuantizedWeight) -> float:
    """Return the device's time for a prompt and the steps of an answer, launches left out."""
    made = kernel(weight)
    width, device = weight.num_inputs, weight.values.device
    prompt = torch.ones(PROMPT_ROWS, width, dtype=dtype_of_rows(device), device=device)
    return _seconds(made, prompt) + NUM_STEPS * _seconds(made, prompt[:1])


def _seconds(kernel: Kernel, rows: torch.Tensor) -> float:
    kernel(rows, None)
    torch.cuda.synchronize()
    graph, _ = record_graph(lambda: kernel(rows, None))
    best = float("inf")
    for _ in range(ROUNDS):
        clock = DeviceClock()
        graph.replay()
        best = min(best, clock.wait())
    return best
