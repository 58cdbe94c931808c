"""Which device a model runs on, and in which number format there.

CUDA's own numbering holds: with CUDA_VISIBLE_DEVICES the first visible card is cuda:0. Cards are
counted by their slots, as nvidia-smi does, unless CUDA_DEVICE_ORDER says otherwise.
"""

import logging

import torch

from sightline.core.errors import StartupError, shorten
from sightline.models import cpu_numbers
from sightline.models.device_memory import has_nvidia_card

logger = logging.getLogger(__name__)

# Cards from this generation on compute in bfloat16 themselves.
FIRST_BFLOAT16 = (8, 0)
INSTALL_HINT = (
    "this torch was built without CUDA: install one that has it "
    "(pip install --force-reinstall torch; see https://pytorch.org/get-started/locally)"
)


def find_device(name: str) -> torch.device:
    """Return the device of that name: auto (a GPU if there is one), cpu, cuda or cuda:N.

    Raises StartupError, saying what is in the way, for a device that cannot be used.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return _checked("cuda:0")
        if has_nvidia_card() and torch.version.cuda is None:
            logger.warning("there is an NVIDIA GPU, but %s; the CPU is used", INSTALL_HINT)
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda":
        return _checked(name)
    if torch.version.cuda is None and torch.version.hip is None:
        raise StartupError(f"Device {shorten(name)!r} cannot be used: {INSTALL_HINT}.")
    count = torch.cuda.device_count()
    if count == 0:
        raise StartupError(
            f"Device {shorten(name)!r} cannot be used: torch sees no GPU. Check that nvidia-smi "
            "lists one, that the driver is new enough for CUDA "
            f"{torch.version.cuda or torch.version.hip}, and that CUDA_VISIBLE_DEVICES does not "
            "hide it."
        )
    if number and (not number.isdecimal() or int(number) >= count):
        last = f"cuda:0 to cuda:{count - 1}" if count > 1 else "cuda:0"
        raise StartupError(
            f"Device {shorten(name)!r} is not there; use {last}. CUDA_VISIBLE_DEVICES decides "
            "which cards are visible, and numbers them from 0 on."
        )
    return _checked(f"cuda:{number or 0}")


def dtype_for_device(dtype: torch.dtype, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return the format to load weights in that a checkpoint keeps in `dtype`."""
    if device.type != "cuda":
        return cpu_numbers.dtype_for_device(dtype, device, num_parameters)
    if dtype != torch.bfloat16 or has_bfloat16(device):
        return dtype
    logger.info("weights are loaded as float16: this GPU has no bfloat16 arithmetic")
    return torch.float16


def has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU computes in bfloat16 itself, not by way of float32."""
    if torch.version.hip is not None:
        return True
    return torch.cuda.get_device_capability(device) >= FIRST_BFLOAT16


def _checked(name: str) -> torch.device:
    """Return the device after it has computed something."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StartupError(
            f"Device {shorten(name)!r} is not usable here; use auto, cpu or cuda "
            f"({shorten(reason, 200)})."
        ) from None
    return device


def is_lost(device: torch.device) -> bool:
    """Whether nothing can be computed on `device` any more in this process, however often asked.

    A GPU on which a kernel went wrong takes no work any more from whoever launched it.
    """
    if device.type != "cuda":
        return False
    for _ in range(2):  # a launch that was merely refused may be told to whoever launches next
        try:
            torch.ones(1, device=device).add_(1).item()
        except torch.OutOfMemoryError:
            return False  # it is full, not broken
        except RuntimeError:
            continue
        return False
    return True
