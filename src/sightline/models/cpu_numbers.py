"""The number format that `auto` means on this machine, as torch has it."""

import logging

import torch

from sightline.models.device_memory import cpu_has_bfloat16 as has_bfloat16_arithmetic
from sightline.models.device_memory import free_cpu_memory as free_memory
from sightline.models.number_formats import is_better_as_float32

logger = logging.getLogger(__name__)


def dtype_for_device(dtype: torch.dtype, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return the format to load weights in that a checkpoint keeps in `dtype`."""
    if dtype != torch.bfloat16 or device.type != "cpu" or has_bfloat16_arithmetic():
        return dtype
    if is_better_as_float32(
        "bfloat16", has_bfloat16=False, num_parameters=num_parameters, free_bytes=free_memory()
    ):
        logger.info("weights are loaded as float32: this processor has no bfloat16 arithmetic")
        return torch.float32
    logger.warning(
        "this processor has no bfloat16 arithmetic, and float32 weights would not leave half "
        "of the memory free: steps will be slower (dtype float32 forces it)"
    )
    return dtype
