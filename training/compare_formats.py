"""What number formats cost the packaged model: the same questions, pair by pair.

    python -m training.compare_formats --scale 4 --json formats.json

Each format is asked what float32 is asked, greedily. A row tells how many answers a format has
right, how many it lost and gained against float32, and the difference in points with the half
width of its 95 % interval: that of paired answers, which is far narrower than either share's.
Rows without a bar, whose answers are long, are left out.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from sightline.models.quantization import wanted_quantization
from training.evaluate import BARS, Asked, Speaker, questions
from training.package import DEMO_FOLDER

# How many points a format may lose in any row.
ALLOWED = {"int8": 1.0, "int4": 3.0}


class Pairs:
    """Answers of two formats to the same questions."""

    def __init__(self) -> None:
        self.number = self.right = self.lost = self.gained = 0

    def add(self, *, plain: bool, other: bool) -> None:
        self.number += 1
        self.right += other
        self.lost += plain and not other
        self.gained += other and not plain

    @property
    def points(self) -> float:
        return 100 * (self.gained - self.lost) / self.number

    @property
    def half_width(self) -> float:
        """Of the 95 % interval of `points`; with nothing changed, of three changes unseen."""
        changed, difference = self.lost + self.gained, self.gained - self.lost
        if not changed:
            return 300 / self.number
        return 196 * math.sqrt(max(changed - difference**2 / self.number, 1)) / self.number

    def as_row(self) -> dict[str, float]:
        return {
            "of": self.number,
            "right": self.right,
            "lost": self.lost,
            "gained": self.gained,
            "points": round(self.points, 2),
            "half_width": round(self.half_width, 2),
        }


class Listener:
    """A speaker that looks at a picture once for all its questions."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._picture = b""

    def judged(self, asked: Asked) -> dict[str, bool]:
        if asked.case.picture is not self._picture:
            self._rows = self._speaker.see(asked.case.picture)
            self._picture = asked.case.picture
        return asked.judged(self._speaker.say(asked.dialog, self._rows))


def compare(
    folder: Path, formats: list[str], seed: int, scale: float
) -> dict[str, dict[str, Pairs]]:
    """Return the pairs by format and row."""
    plain = Listener(Speaker(folder, "float32"))
    others = {
        name: Listener(Speaker(folder, "float32", wanted_quantization(name, None)))
        for name in formats
    }
    pairs: dict[str, dict[str, Pairs]] = {name: defaultdict(Pairs) for name in formats}
    for asked in questions(seed, scale):
        if asked.case.bar not in BARS:
            continue
        expected = plain.judged(asked)
        for name, other in others.items():
            for row, is_right in other.judged(asked).items():
                pairs[name][row].add(plain=expected[row], other=is_right)
    return pairs


def verdict(name: str, row: str, found: Pairs) -> str:
    if row not in BARS:
        return ""
    worst = found.points - found.half_width
    if worst >= -ALLOWED[name]:
        return "holds"
    return "holds on average" if found.points >= -ALLOWED[name] else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=DEMO_FOLDER)
    parser.add_argument("--formats", default="int8,int4")
    parser.add_argument("--seed", type=int, default=40)
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.monotonic()
    found = compare(options.folder, options.formats.split(","), options.seed, options.scale)
    report: dict[str, Any] = {"seed": options.seed, "scale": options.scale}
    for name, rows in found.items():
        report[name] = {}
        for row, pairs in sorted(rows.items()):
            report[name][row] = pairs.as_row() | {"verdict": verdict(name, row, pairs)}
            print(
                f"{name} {row:20} {pairs.right:5} / {pairs.number:<5} lost {pairs.lost:3} gained "
                f"{pairs.gained:3}  {pairs.points:+6.2f} +- {pairs.half_width:.2f} points  "
                f"{verdict(name, row, pairs)}"
            )
    print(f"{time.monotonic() - began:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
