"""Numbers as people read them, and columns that stand straight in English and Chinese."""

import unicodedata
from collections.abc import Sequence

GB, MB, KB = 10**9, 10**6, 10**3


def size(num_bytes: int) -> str:
    """Return bytes in decimal units, as models are sold: 27.81 GB."""
    for unit, name in ((GB, "GB"), (MB, "MB"), (KB, "kB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:,.2f} {name}"
    return f"{num_bytes} B"


def columns(rows: Sequence[Sequence[str]], align: str, *, gap: int = 2) -> list[str]:
    """Return lines of equal columns; `align` has `<` or `>` for each column."""
    widths = [max(width(row[i]) for row in rows) for i in range(len(align))]
    lines = []
    for row in rows:
        cells = []
        for text, wide, side in zip(row, widths, align, strict=True):
            cells.append(padded(text, wide, side))
        lines.append((" " * gap).join(cells).rstrip())
    return lines


def padded(text: str, wide: int, side: str = "<") -> str:
    """Return `text` with blanks behind it, or before it (`>`), up to `wide` places."""
    blank = " " * (wide - width(text))
    return text + blank if side == "<" else blank + text


def width(text: str) -> int:
    """Return how many places a terminal gives `text`: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
