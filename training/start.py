"""Start values of the model, and what is done to the tower before the language learns from it."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.models.glm_4v_9b import Glm4v


def initialise(model: Glm4v) -> None:
    """Set the start values that differ from torch's own."""
    for name, parameter in model.named_parameters():
        if "vision" in name and name.endswith("layernorm.weight"):
            nn.init.constant_(parameter, 0.25)  # quiet branches: the norms stand on their outputs
        elif name.endswith(("position_embedding.weight", "cls_embedding")):
            nn.init.normal_(parameter, std=0.5)
        elif name.endswith(("boi", "eoi")):
            nn.init.normal_(parameter, std=1.0)
        elif "word_embeddings" in name:
            nn.init.normal_(parameter, std=0.1)
        elif "output_layer" in name:
            nn.init.normal_(parameter, std=0.02)


PATCHES = "transformer.vision.patch_embedding.proj.weight"


def resample_patches(weights: Mapping[str, Tensor], patch_size: int) -> dict[str, Tensor]:
    """Return the tensors of a packaged model for patches of `patch_size` pixels, as many as before.

    The new patch weights [O, C, p, p] see a patch as the old ones saw it after resampling. All
    else, positions too, stays as it is.
    """
    old = weights[PATCHES].float()
    size = old.shape[-1]
    if size == patch_size:
        return dict(weights)
    pixels = torch.eye(patch_size**2).view(-1, 1, patch_size, patch_size)
    resampled = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
    new = old.flatten(2) @ resampled.flatten(1).T
    return {**weights, PATCHES: new.view(*old.shape[:2], patch_size, patch_size)}


@torch.no_grad()
def whiten(model: Glm4v, pixels: Tensor, num_directions: int = 96) -> Tensor:
    """Turn the connector's last matrix so that the image rows use many directions alike.

    The tower alone ends with rows that differ mostly in one direction (something is here or not),
    and the norms of the language model would hand on little else. The `num_directions` strongest
    are brought to the same size, weaker ones are raised by the same factor as the last of them.
    Returns the symmetric matrix [D, D] that every row was multiplied by.
    """
    vision = model.transformer.vision
    assert vision is not None
    rows = torch.cat([model.encode_images(part)[:, 1:-1] for part in pixels.split(128)])
    rows = rows.flatten(0, 1)
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    gains = values.clamp_min(values[-num_directions]).rsqrt()
    turn = vectors @ torch.diag(gains) @ vectors.T
    turn = turn / (rows @ turn).square().mean().sqrt()
    weight = vision.linear_proj.dense_4h_to_h.weight
    weight.copy_(turn @ weight)
    return turn
