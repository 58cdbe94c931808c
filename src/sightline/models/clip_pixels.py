"""Pixels as OpenAI's CLIP wants them; every vision tower here was trained on those numbers."""

import torch
from torch import Tensor

from sightline.models.transfer import to_device

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def normalise_pixels(pixels: Tensor) -> Tensor:
    """Turn uint8 RGB `[N, H, W, 3]` into float32 `[N, 3, H, W]` of mean 0 and deviation 1."""
    mean, std = (
        to_device(values, torch.float32, pixels.device).view(3, 1, 1)
        for values in (PIXEL_MEAN, PIXEL_STD)
    )
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
