"""The pixels that senders want for their pictures: kept within what the model is made for."""

import pytest

from sightline.core.chat import ImagePart, PixelBounds
from sightline.core.image_policy import PatchGridImagePolicy, SquareImagePolicy, policy_of
from sightline.service.pixel_bounds import bounds_notices

GRID = PatchGridImagePolicy(min_pixels=4 * 784, max_pixels=100 * 784)


def part(**bounds: int) -> ImagePart:
    return ImagePart(source="x", param="p", bounds=PixelBounds(param="p", **bounds))


@pytest.mark.parametrize(
    ("bounds", "least", "most", "reasons"),
    [
        ({"max_pixels": 50 * 784}, 4 * 784, 50 * 784, []),
        ({"min_pixels": 9 * 784}, 9 * 784, 100 * 784, []),
        ({"max_pixels": 10**9}, 4 * 784, 100 * 784, ["clamped-to-78400"]),
        ({"min_pixels": 1, "max_pixels": 2}, 4 * 784, 4 * 784, ["clamped-to-3136"] * 2),
    ],
)
def test_bounds_stay_inside_those_of_the_model(
    bounds: dict[str, int], least: int, most: int, reasons: list[str]
) -> None:
    picture = part(**bounds)
    policy = policy_of(picture, GRID)
    assert policy == PatchGridImagePolicy(min_pixels=least, max_pixels=most)
    assert [notice.reason for notice in bounds_notices([picture], GRID)] == reasons


def test_a_picture_of_one_size_for_all_has_no_bounds() -> None:
    square = SquareImagePolicy(size=112, num_tokens=18)
    assert policy_of(part(max_pixels=5), square) == square
    (notice,) = bounds_notices([part(max_pixels=5)], square)
    assert (notice.field, notice.reason) == ("p.max_pixels", "fixed-image-size")


def test_without_bounds_nothing_changes_and_nothing_is_said() -> None:
    picture = ImagePart(source="x", param="p")
    assert policy_of(picture, GRID) is GRID
    assert bounds_notices([picture], GRID) == ()
