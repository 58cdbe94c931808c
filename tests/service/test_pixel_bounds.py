"""The pixels that senders want for their pictures: kept within what the model is made for."""

import pytest

from sightline.core.chat import Detail, DetailLevel, ImagePart, Message, PixelBounds, TextPart
from sightline.core.image_policy import PatchGridImagePolicy, SquareImagePolicy, policy_of
from sightline.service.pixel_bounds import (
    bounds_notices,
    detail_notices,
    heeded_low_detail,
    with_detail,
)

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


def looked_at(level: DetailLevel, bounds: PixelBounds | None = None) -> ImagePart:
    detail = Detail(param="p.detail", level=level)
    return ImagePart(source="x", param="p", detail=detail, bounds=bounds)


def test_a_low_detail_that_the_operator_has_bounded_is_heeded() -> None:
    message = Message(role="user", parts=(looked_at("low"), TextPart(text="?"), looked_at("high")))
    low, text, high = with_detail(message, 50 * 784).parts
    assert isinstance(low, ImagePart)
    assert policy_of(low, GRID) == PatchGridImagePolicy(min_pixels=4 * 784, max_pixels=50 * 784)
    assert (text, high) == message.parts[1:]
    assert bounds_notices([low], GRID) == ()


@pytest.mark.parametrize("level", ["low", "high", "original"])
def test_a_detail_that_changes_nothing_is_told_once(level: DetailLevel) -> None:
    (notice,) = detail_notices([looked_at(level)] * 2, None)
    assert (notice.field, notice.reason, notice.severity) == ("p.detail", "no-effect", "info")
    assert len(detail_notices([looked_at(level)], 50 * 784)) == (0 if level == "low" else 1)


def test_bounds_in_numbers_win_over_a_low_detail() -> None:
    picture = looked_at("low", PixelBounds(param="p", max_pixels=80 * 784))
    message = Message(role="user", parts=(picture,))
    assert with_detail(message, 50 * 784) == message
    assert [notice.field for notice in detail_notices([picture], 50 * 784)] == ["p.detail"]


def test_low_detail_is_bounded_only_where_the_model_can_heed_it() -> None:
    assert heeded_low_detail(50 * 784, GRID) == 50 * 784
    assert heeded_low_detail(1, GRID) == GRID.min_pixels
    assert heeded_low_detail(GRID.max_pixels, GRID) is None
    assert heeded_low_detail(None, GRID) is None
    assert heeded_low_detail(5, SquareImagePolicy(size=112, num_tokens=18)) is None
    assert heeded_low_detail(5, None) is None
