"""What a measurement looks like to a person: a Markdown table, and a plot."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.client.bench import LoadReport, Work

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

COLUMNS = ("ttft", "itl", "tpot", "e2e")
WIDTH, HEIGHT, MARGIN = 960, 420, 64
COLOURS = {"p50": (31, 119, 180), "p95": (214, 39, 40)}
GREY, BLACK = (200, 200, 200), (40, 40, 40)
NUM_LINES = 5


def markdown(reports: Sequence[LoadReport]) -> str:
    """Return the reports as a table, times in milliseconds as p50 / p95 / p99."""
    lines = [
        "| load | tokens/s | requests/s | TTFT | ITL | TPOT | e2e | prompt tokens | doubts |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        times = [_times(report, name) for name in COLUMNS]
        cells = [
            report.load.label,
            f"{report.tokens_per_s:.1f}",
            f"{report.requests_per_s:.2f}",
            *times,
            f"{report.prompt_tokens:.0f}",
            "; ".join(doubts(report)) or "none",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def doubts(report: LoadReport) -> list[str]:
    """Return what makes a report less than it seems."""
    found = []
    if report.num_errors:
        found.append(f"{report.num_errors} errors ({report.first_error})")
    if report.num_short:
        found.append(f"{report.num_short} answers ended early")
    if report.bunched > 0.25:
        found.append(f"{report.bunched:.0%} of the text came in bunches")
    return found


def _times(report: LoadReport, name: str) -> str:
    values = (report.milliseconds[name][p] for p in ("p50", "p95", "p99"))
    return " / ".join("-" if value is None else f"{value:.1f}" for value in values)


def to_json(work: Work, reports: Sequence[LoadReport]) -> str:
    """Return everything measured, and what was asked."""
    return json.dumps(
        {"work": asdict(work), "loads": [asdict(report) for report in reports]}, indent=1
    )


def plot(reports: Sequence[LoadReport], file: Path) -> None:
    """Write a PNG of latency against load: the time to the first text, and between two pieces."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for panel, (name, title) in enumerate(
        (("ttft", "time to first token, ms"), ("itl", "time between tokens, ms"))
    ):
        left = panel * WIDTH // 2 + MARGIN
        _panel(draw, reports, name, title, (left, MARGIN, WIDTH // 2 * (panel + 1) - 24, 350))
    image.save(file, "PNG")


def round_step(least: float) -> float:
    """Return the first of 1, 2, 2.5, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= least)


def _panel(
    draw: "ImageDraw",
    reports: Sequence[LoadReport],
    name: str,
    title: str,
    box: tuple[int, int, int, int],
) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=13)
    left, top, right, bottom = box
    values = [report.milliseconds[name][p] or 0.0 for report in reports for p in COLOURS]
    highest = NUM_LINES * round_step(max([*values, 1e-3]) / NUM_LINES)
    for line in range(NUM_LINES + 1):
        y = bottom - (bottom - top) * line / NUM_LINES
        draw.line((left, y, right, y), fill=GREY)
        draw.text((left - 8, y), f"{highest * line / NUM_LINES:.4g}", BLACK, font, anchor="rm")
    draw.text((left, top - 40), title, BLACK, font)
    step = (right - left) / max(1, len(reports))
    places = [left + step * (n + 0.5) for n in range(len(reports))]
    for x, report in zip(places, reports, strict=True):
        draw.text((x, bottom + 14), report.load.label, BLACK, font, anchor="mm")
    for number, (percent, colour) in enumerate(COLOURS.items()):
        points = [
            (x, bottom - (bottom - top) * value / highest)
            for x, report in zip(places, reports, strict=True)
            if (value := report.milliseconds[name][percent]) is not None
        ]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        for x, y in points:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
        draw.text((left + 60 * number, top - 20), percent, colour, font)
