"""Renders numbered pictures of one stream into shards that training maps into memory.

    python -m training.pictures --count 250000

Picture `i` of a stream depends on the stream's seed and on `i` only, so shards can be made by
several processes, in any order, again.
"""

import argparse
import os
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from training.drawing import draw_number_scene, draw_shapes_scene, fit, wear
from training.offworld import TRAINED, draw_other
from training.world import COLORS, MAX_THINGS, SHAPES, Scene, Thing

WORK = Path(__file__).parent / "state"
IMAGE_SIZE = 160
SHARD = 2000
KINDS = ("shapes", "number", "other")
NO_COLOR = 255
# One row per picture: the whole truth in plain numbers.
RECORD = np.dtype(
    [
        ("kind", "u1"), ("count", "u1"), ("is_light", "u1"), ("number_color", "u1"),
        ("number", "i2"),
        ("shape", "u1", MAX_THINGS), ("color", "u1", MAX_THINGS),
        ("box", "f4", (MAX_THINGS, 4)),
    ]
)  # fmt: skip


def draw(rng: Random, size: int = IMAGE_SIZE) -> tuple[np.ndarray, Scene]:
    """Return one picture of the training mix, uint8 [size, size, 3], and its truth."""
    pick = rng.random()
    if pick < 0.70:
        image, scene = draw_shapes_scene(rng)
    elif pick < 0.87:
        image, scene = draw_number_scene(rng)
    else:
        image, family = draw_other(rng, TRAINED)
        scene = Scene("other", family=family)
    return fit(wear(rng, image), size), scene


def to_record(scene: Scene) -> np.ndarray:
    """Return `scene` as one row of `RECORD`; the family of an "other" picture is dropped."""
    row = np.zeros((), RECORD)
    row["kind"] = KINDS.index(scene.kind)
    row["count"] = len(scene.things)
    row["is_light"] = scene.has_light_backdrop
    row["number"] = int(scene.number) if scene.number else -1
    row["number_color"] = COLORS.index(scene.number_color) if scene.number_color else NO_COLOR
    for i, thing in enumerate(scene.things):
        row["shape"][i] = SHAPES.index(thing.shape)
        row["color"][i] = COLORS.index(thing.color)
        row["box"][i] = (thing.x, thing.y, thing.half_width, thing.half_height)
    for i, box in enumerate(scene.digit_boxes):
        row["box"][i] = box
    return row


def to_scene(row: Any, is_mirrored: bool = False) -> Scene:
    """Return the scene of a record; mirrored left to right if asked."""
    things = []
    for i in range(int(row["count"])):
        x, y, half_width, half_height = (float(v) for v in row["box"][i])
        things.append(
            Thing(
                shape=SHAPES[row["shape"][i]],
                color=COLORS[row["color"][i]],
                x=1 - x if is_mirrored else x,
                y=y,
                half_width=half_width,
                half_height=half_height,
            )
        )
    color = int(row["number_color"])
    return Scene(
        kind=KINDS[row["kind"]],  # type: ignore[arg-type]
        things=tuple(things),
        number=str(row["number"]) if row["number"] >= 0 else "",
        number_color="" if color == NO_COLOR else COLORS[color],
        has_light_backdrop=bool(row["is_light"]),
    )


def write_shard(folder: Path, seed: int, index: int) -> None:
    """Write pictures [index * SHARD, (index + 1) * SHARD) of stream `seed`, unless they exist."""
    pixels_file, records_file = folder / f"{index:05}.pixels.npy", folder / f"{index:05}.truth.npy"
    if records_file.exists():
        return
    pixels = np.empty((SHARD, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    records = np.empty(SHARD, RECORD)
    for i in range(SHARD):
        pixels[i], scene = draw(Random(f"{seed}/{index * SHARD + i}"))
        records[i] = to_record(scene)
    np.save(pixels_file, pixels)
    unfinished = folder / f"{index:05}.unfinished.npy"
    np.save(unfinished, records)
    unfinished.rename(records_file)


def open_shards(folder: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the finished shards' pixels, mapped from disk, and all their records in order."""
    files = sorted(folder.glob("*.truth.npy"))
    pixels = [
        np.load(f.with_name(f.name.replace(".truth", ".pixels")), mmap_mode="r") for f in files
    ]
    return pixels, np.concatenate([np.load(f) for f in files])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=250_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--process", type=int, default=0, help="this process's number")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=WORK / "pictures")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for index in range(options.process, -(-options.count // SHARD), options.processes):
        begin = time.monotonic()
        write_shard(options.folder, options.seed, index)
        print(f"shard {index}: {SHARD / (time.monotonic() - begin):.0f} pictures/s", flush=True)


if __name__ == "__main__":
    os.nice(10)
    main()
