"""Which number format a processor computes well in.

A processor without bfloat16 arithmetic computes in fp32 whatever the weights are, and pays for
converting them in every step: three times the time of fp32 weights from some ten rows on. fp32
weights take twice the memory, so they are chosen only where there is plenty.
"""

import logging
import platform

import torch

from sightline.models.host_memory import free_memory

logger = logging.getLogger(__name__)

FP32_BYTES = 4
_X86 = ("x86_64", "amd64")


def dtype_for_device(dtype: torch.dtype, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return the format to load weights in that a checkpoint keeps in `dtype`."""
    if dtype != torch.bfloat16 or device.type != "cpu" or has_bfloat16_arithmetic():
        return dtype
    if 2 * FP32_BYTES * num_parameters > free_memory():
        logger.warning(
            "this processor has no bfloat16 arithmetic, and float32 weights would not leave half "
            "of the memory free: steps will be slower (dtype float32 forces it)"
        )
        return dtype
    logger.info("weights are loaded as float32: this processor has no bfloat16 arithmetic")
    return torch.float32


def has_bfloat16_arithmetic() -> bool:
    """Whether the processor multiplies bfloat16 itself; assumed where nobody can tell."""
    if platform.machine().lower() not in _X86:
        return True
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    found = [getattr(torch.cpu, name) for name in checks if hasattr(torch.cpu, name)]
    return not found or any(check() for check in found)
