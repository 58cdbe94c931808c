"""docs/zh/api.md says what docs/api.md says: the same parts, rows, code and names."""

import re
from pathlib import Path

import pytest

EXAMPLE = re.compile(r"^```.*?^```", re.M | re.S)
DOCS = Path(__file__).parents[2] / "docs"
PARTS = list(
    zip(
        re.split(r"^(?=#)", (DOCS / "api.md").read_text("utf-8"), flags=re.M)[1:],
        re.split(r"^(?=#)", (DOCS / "zh" / "api.md").read_text("utf-8"), flags=re.M)[1:],
        strict=True,
    )
)
each_part = pytest.mark.parametrize(
    ("english", "chinese"), PARTS, ids=[part.partition("\n")[0].strip("# ") for part, _ in PARTS]
)


def names(text: str) -> set[str]:
    """What stands between backticks outside of examples."""
    return set(re.findall(r"`([^`\n]+)`", EXAMPLE.sub("", text)))


def table_rows(text: str) -> list[list[str]]:
    """The names in the first cell of each row; none where it is a word, not a name."""
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [re.findall(r"`([^`]+)`", row.split(" | ")[0]) for row in rows]


@each_part
def test_tables_have_the_same_rows(english: str, chinese: str) -> None:
    assert table_rows(chinese) == table_rows(english)


@each_part
def test_examples_are_the_same(english: str, chinese: str) -> None:
    assert EXAMPLE.findall(chinese) == EXAMPLE.findall(english)


@each_part
def test_every_name_is_mentioned(english: str, chinese: str) -> None:
    assert names(chinese) == names(english)
