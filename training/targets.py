"""What the image rows should know, as arrays: the targets of the auxiliary losses."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.world import COLORS, SHAPES

NUM_SHAPES, NUM_COLORS = len(SHAPES), len(COLORS)
NUM_PAIRS = NUM_SHAPES * NUM_COLORS
MAX_DIGITS = 3
NO_DIGIT = 10
IGNORE = -100


@dataclass(frozen=True, slots=True)
class Targets:
    """B pictures, a grid of G x G image rows, each over 2 x 2 patches.

    `shape`, `color`: int64 [B, G*G, 4], what covers each patch (the last class is "nothing").
    `centre`: float [B, G*G, pairs], 1 where a thing of that shape and colour has its middle.
    `offset`: float [B, G*G, 4], x and y of that middle, half width and height, in cells;
    NaN where there is none. `kind`, `count`, `light`: int64 [B]; `presence`: float [B, pairs].
    `digits`: int64 [B, 3], left to right; IGNORE where `kind` is not a number.
    `strokes`, `order`: int64 [B, G*G, 4], which digit stands on each patch and the how many-th it
    is (the last class is "none"); IGNORE where nobody wrote down where the digits are.
    """

    shape: Tensor
    color: Tensor
    centre: Tensor
    offset: Tensor
    kind: Tensor
    count: Tensor
    light: Tensor
    presence: Tensor
    digits: Tensor
    strokes: Tensor
    order: Tensor


def make_targets(records: np.ndarray, grid: int) -> Targets:
    """Return the targets of pictures whose truth is `records` (already mirrored if they are)."""
    batch = len(records)
    fine = grid * 2
    middle = (np.arange(fine, dtype=np.float32) + 0.5) / fine
    shape = np.full((batch, fine, fine), NUM_SHAPES, np.int64)
    color = np.full((batch, fine, fine), NUM_COLORS, np.int64)
    nearest = np.full((batch, fine, fine), 1.0, np.float32)
    centre = np.zeros((batch, grid * grid, NUM_PAIRS), np.float32)
    offset = np.full((batch, grid * grid, 4), np.nan, np.float32)
    rows = np.arange(batch)
    for i in range(records["box"].shape[1]):
        present = records["count"] > i
        x, y, half_width, half_height = records["box"][:, i].T
        half_width, half_height = np.maximum(half_width, 1e-3), np.maximum(half_height, 1e-3)
        away_x = ((middle[None, :] - x[:, None]) / half_width[:, None]) ** 2
        away_y = ((middle[None, :] - y[:, None]) / half_height[:, None]) ** 2
        away = away_y[:, :, None] + away_x[:, None, :]
        covered = (away < nearest) & present[:, None, None]
        nearest = np.where(covered, away, nearest)
        shape = np.where(covered, records["shape"][:, i, None, None], shape)
        color = np.where(covered, records["color"][:, i, None, None], color)
        column = np.clip((x * grid).astype(int), 0, grid - 1)
        row = np.clip((y * grid).astype(int), 0, grid - 1)
        cell = row * grid + column
        pair = records["shape"][:, i].astype(int) * NUM_COLORS + records["color"][:, i]
        centre[rows[present], cell[present], pair[present]] = 1
        where = np.stack([x * grid, y * grid, half_width * grid, half_height * grid], 1)
        offset[rows[present], cell[present]] = where[present]
    number = records["number"].astype(int)
    digits = np.full((batch, MAX_DIGITS), IGNORE, np.int64)
    for b in np.flatnonzero(number >= 0):
        digits[b] = digits_of(str(number[b]))
    strokes, order = _strokes(records, digits, middle)
    return Targets(
        shape=_by_row(shape, grid),
        color=_by_row(color, grid),
        centre=torch.from_numpy(centre),
        offset=torch.from_numpy(offset),
        kind=torch.from_numpy(records["kind"].astype(np.int64)),
        count=torch.from_numpy(records["count"].astype(np.int64)),
        light=torch.from_numpy(records["is_light"].astype(np.int64)),
        presence=torch.from_numpy(centre.max(1)),
        digits=torch.from_numpy(digits),
        strokes=_by_row(strokes, grid),
        order=_by_row(order, grid),
    )


def _strokes(
    records: np.ndarray, digits: np.ndarray, middle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which digit's box holds each patch's middle and its place: int64 [B, 2G, 2G] both."""
    strokes = np.full((len(records), len(middle), len(middle)), NO_DIGIT, np.int64)
    order = np.full_like(strokes, MAX_DIGITS)
    is_number = records["kind"] == 1
    for i in range(MAX_DIGITS):
        x, y, half_width, half_height = records["box"][:, i].T
        is_written = is_number & (half_width > 0)
        beside = np.abs(middle[None, :] - x[:, None]) <= half_width[:, None]
        level = np.abs(middle[None, :] - y[:, None]) <= half_height[:, None]
        covered = level[:, :, None] & beside[:, None, :] & is_written[:, None, None]
        strokes = np.where(covered, digits[:, i, None, None], strokes)
        order = np.where(covered, i, order)
    unknown = is_number & (records["box"][:, 0, 2] == 0)
    strokes[unknown] = IGNORE
    order[unknown] = IGNORE
    return strokes, order


def digits_of(number: str) -> list[int]:
    """Return three classes, left to right: 0 to 9, or `NO_DIGIT` after the last digit."""
    return [int(number[j]) if j < len(number) else NO_DIGIT for j in range(MAX_DIGITS)]


def _by_row(fine: np.ndarray, grid: int) -> Tensor:
    """[B, 2G, 2G] -> [B, G*G, 4]."""
    batch = len(fine)
    cells = fine.reshape(batch, grid, 2, grid, 2).transpose(0, 1, 3, 2, 4)
    return torch.from_numpy(np.ascontiguousarray(cells.reshape(batch, grid * grid, 4)))
