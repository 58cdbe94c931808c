"""What number formats cost the packaged model: the same questions, pair by pair.

    python -m training.compare_formats --minutes 20 --json formats.json
    python -m training.compare_formats --merge formats.json others.json    # of other seeds

Each format is asked what float32 is asked, greedily. A row tells how many answers a format has
right, how many it lost and gained against float32, and the difference in points with the half
width of its 95 % interval: that of paired answers, which is far narrower than either share's.
Rows without a bar, whose answers are long, are left out. It asks in rounds and tells after each.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from sightline.models.quantization import wanted_quantization
from training.evaluate import BARS, Asked, Speaker, questions
from training.package import DEMO_FOLDER

# How many points a format may lose in any row.
ALLOWED = {"int8": 1.0, "int4": 3.0}


class Pairs:
    """Answers of two formats to the same questions."""

    def __init__(self) -> None:
        self.number = self.right = self.lost = self.gained = 0

    def add_row(self, row: dict[str, int]) -> None:
        """Add what `as_row` has told."""
        self.number += row["of"]
        self.right += row["right"]
        self.lost += row["lost"]
        self.gained += row["gained"]

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

    def __init__(self, folder: Path, scheme: str | None = None) -> None:
        self._speaker = Speaker(folder, "float32", wanted_quantization(scheme, None))
        self._picture = b""

    def judged(self, asked: Asked) -> dict[str, bool]:
        if asked.case.picture is not self._picture:
            self._rows = self._speaker.see(asked.case.picture)
            self._picture = asked.case.picture
        # Most answers are right, and whether one is takes less than saying it.
        if asked.right and self._speaker.begins_with(asked.dialog, self._rows, asked.right):
            return asked.judged(asked.right)
        return asked.judged(self._speaker.say(asked.dialog, self._rows))


class Comparison:
    """What every format has right, row by row, beside float32."""

    def __init__(self, formats: Iterable[str]) -> None:
        self.pairs: dict[str, dict[str, Pairs]] = {name: defaultdict(Pairs) for name in formats}

    def ask(self, plain: Listener, others: dict[str, Listener], seed: int, scale: float) -> None:
        for asked in questions(seed, scale):
            if asked.case.bar not in BARS:
                continue
            expected = plain.judged(asked)
            for name, other in others.items():
                for row, is_right in other.judged(asked).items():
                    self.pairs[name][row].add(plain=expected[row], other=is_right)

    def add_report(self, report: dict[str, Any]) -> None:
        """Add the answers to other questions."""
        for name, rows in self.pairs.items():
            for row, found in report[name].items():
                rows[row].add_row(found)

    def lines(self) -> Iterator[str]:
        for name, rows in self.pairs.items():
            for row, pairs in sorted(rows.items()):
                yield (
                    f"{name} {row:20} {pairs.right:5} / {pairs.number:<5} lost {pairs.lost:3} "
                    f"gained {pairs.gained:3}  {pairs.points:+6.2f} +- {pairs.half_width:.2f} "
                    f"points  {verdict(name, row, pairs)}"
                )

    def as_object(self) -> dict[str, Any]:
        return {
            name: {
                row: pairs.as_row() | {"verdict": verdict(name, row, pairs)}
                for row, pairs in sorted(rows.items())
            }
            for name, rows in self.pairs.items()
        }


def verdict(name: str, row: str, found: Pairs) -> str:
    """Say whether a row with a bar keeps to what its format may lose, surely or on average."""
    if row not in BARS:
        return ""
    if found.points - found.half_width >= -ALLOWED[name]:
        return "holds"
    return "holds on average" if found.points >= -ALLOWED[name] else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=DEMO_FOLDER)
    parser.add_argument("--formats", default="int8,int4")
    parser.add_argument("--seed", type=int, default=40, help="the first; each round takes the next")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--scale", type=float, default=0.3, help="questions of a round")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no round after these")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--merge", type=Path, nargs="+", help="only add up what was written before")
    options = parser.parse_args()
    formats = options.formats.split(",")
    comparison = Comparison(formats)
    if options.merge:
        for file in options.merge:
            comparison.add_report(json.loads(file.read_text(encoding="utf-8")))
        print("\n".join(comparison.lines()))
        return
    torch.set_num_threads(1)  # for so small a model, threads cost more than they bring
    began = time.monotonic()
    plain = Listener(options.folder)
    others = {name: Listener(options.folder, name) for name in formats}
    for number in range(options.rounds):
        if time.monotonic() - began > 60 * options.minutes:
            break
        comparison.ask(plain, others, options.seed + number, options.scale)
        print(f"round {number + 1}, {time.monotonic() - began:.0f} s")
        print("\n".join(comparison.lines()), flush=True)
        if options.json:
            report = {"seed": options.seed, "rounds": number + 1, "scale": options.scale}
            text = json.dumps(report | comparison.as_object(), indent=1)
            options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
