"""docs/compatibility.md tells of every judge; `./test --e2e` says whether it still holds."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JUDGES = ROOT / "tests" / "judges"
PYTHON = sorted(JUDGES.glob("*/judge_*.py"))
NODE = sorted(JUDGES.glob("node/*.test.mjs"))


def sections() -> dict[str, str]:
    """The table's sections by the name of their client."""
    parts = (ROOT / "docs" / "compatibility.md").read_text("utf-8").split("\n## ")
    return {part.partition("\n")[0]: part for part in parts[1:]}


def verdicts_of(path: Path) -> tuple[str, list[str]]:
    """The client that a file judges, and what it asks."""
    text = path.read_text("utf-8")
    if path.suffix == ".mjs":
        return text.splitlines()[0].removeprefix("// "), re.findall(r'^test\("([^"]+)"', text, re.M)
    tree = ast.parse(text)
    return (ast.get_docstring(tree) or "").strip(), list(_names(tree))


def _names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_test and node.name.startswith("test_"):
            yield node.name.removeprefix("test_").replace("_", " ")


@pytest.mark.parametrize("path", [*PYTHON, *NODE], ids=lambda path: path.name)
def test_every_judge_and_all_it_asks_is_in_the_table(path: Path) -> None:
    client, asked = verdicts_of(path)
    section = sections().get(client)
    assert section is not None, f"{client} is missing: run python scripts/judges.py --write"
    assert asked
    for name in asked:
        assert f"| {name} |" in section, f"{name} is missing: run python scripts/judges.py --write"
