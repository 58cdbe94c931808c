"""How a model wants its pictures, as plain data: into which size, and what they cost.

From it the front counts a prompt before it decodes a pixel, and the engine checks what it is sent.
Resampling is bicubic.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, Self

from sightline.core.chat import ImagePart

# What a picture may cost that is one slot high, at the longest ratio that is taken anywhere (200).
THIN_TOKENS = 201


class ImagePolicy(ABC):
    """`max_images` is how many a conversation may hold. Sizes are (width, height) in pixels."""

    __slots__ = ()

    max_images: int

    @property
    @abstractmethod
    def tokens_per_image(self) -> int | None:
        """The slots of every picture, or None where they depend on its size."""

    @property
    @abstractmethod
    def most_tokens(self) -> int:
        """The slots of the most expensive picture."""

    @property
    @abstractmethod
    def fewest_tokens(self) -> int:
        """The slots of the cheapest picture."""

    @abstractmethod
    def target_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size into which a picture of this size is resized."""

    @abstractmethod
    def count_tokens(self, width: int, height: int) -> int | None:
        """Return the slots of a picture that has a target size; None for any other size."""

    def within(self, min_pixels: int | None, max_pixels: int | None) -> Self:
        """Return the policy for a picture whose sender wants so many pixels, as far as it can."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareImagePolicy(ImagePolicy):
    """Every image is resized to `size` x `size` pixels and costs `num_tokens` slots.

    `num_tokens` includes the begin and end rows where the tower makes them (GLM-4V: 1602 for 1120
    pixels). The aspect ratio is not kept, as the models were trained.
    """

    size: int
    num_tokens: int
    max_images: int = 1
    kind: Literal["square"] = "square"

    @property
    def tokens_per_image(self) -> int:
        return self.num_tokens

    @property
    def most_tokens(self) -> int:
        return self.num_tokens

    @property
    def fewest_tokens(self) -> int:
        return self.num_tokens

    def target_size(self, width: int, height: int) -> tuple[int, int]:
        return self.size, self.size

    def count_tokens(self, width: int, height: int) -> int | None:
        return self.num_tokens if (width, height) == (self.size, self.size) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchGridImagePolicy(ImagePolicy):
    """The aspect ratio is kept; a slot is a square of `factor` pixels, sides are multiples of it.

    Qwen2-VL: 14 pixels a patch, 2 x 2 patches merged, so a factor of 28. Between `min_pixels` and
    `max_pixels` a picture is hardly resized at all.
    """

    factor: int = 28
    min_pixels: int = 56 * 56
    max_pixels: int = 1280 * 28 * 28
    max_images: int = 16
    kind: Literal["patch-grid"] = "patch-grid"

    @property
    def tokens_per_image(self) -> int | None:
        return None

    @property
    def most_tokens(self) -> int:
        return self.max_pixels // self.factor**2

    @property
    def fewest_tokens(self) -> int:
        return math.ceil(self.min_pixels / self.factor**2)

    def target_size(self, width: int, height: int) -> tuple[int, int]:
        """The published rule ("smart resize"), with Python's rounding of halves to even."""
        factor, most = self.factor, self.max_pixels
        new_width = round(width / factor) * factor
        new_height = round(height / factor) * factor
        if new_width * new_height > most:
            shrink = math.sqrt(width * height / most)
            new_width = max(factor, math.floor(width / shrink / factor) * factor)
            new_height = max(factor, math.floor(height / shrink / factor) * factor)
        elif new_width * new_height < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (width * height))
            new_width = math.ceil(width * grow / factor) * factor
            new_height = math.ceil(height * grow / factor) * factor
        return new_width, new_height

    def within(self, min_pixels: int | None, max_pixels: int | None) -> Self:
        """Bounds outside of the model's own are moved to them."""
        most = self._clamp(max_pixels or self.max_pixels)
        return replace(
            self, min_pixels=min(self._clamp(min_pixels or self.min_pixels), most), max_pixels=most
        )

    def _clamp(self, num_pixels: int) -> int:
        return min(max(num_pixels, self.min_pixels), self.max_pixels)

    def count_tokens(self, width: int, height: int) -> int | None:
        if width < 1 or height < 1 or width % self.factor or height % self.factor:
            return None
        num_tokens = width * height // self.factor**2
        # By the rule's own rounding, very long pictures may end above the most pixels.
        return num_tokens if num_tokens <= max(2 * self.most_tokens, THIN_TOKENS) else None


def image_policy_of(values: dict[str, object]) -> ImagePolicy:
    """Read a policy that was written as an object of its fields. Raises ValueError."""
    for policy in (SquareImagePolicy, PatchGridImagePolicy):
        if values.get("kind") == policy.__dataclass_fields__["kind"].default:
            try:
                return policy(**values)  # type: ignore[arg-type]
            except TypeError as error:
                raise ValueError("not an image policy") from error
    raise ValueError("not an image policy")


def policy_of(part: ImagePart, policy: ImagePolicy) -> ImagePolicy:
    """Return how the model wants this picture, within what its sender wants."""
    bounds = part.bounds
    return policy if bounds is None else policy.within(bounds.min_pixels, bounds.max_pixels)
