"""The pure modules of the pages, judged by Node's own test runner."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parent / "unit"


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_pure_modules_pass_their_own_tests() -> None:
    tests = sorted(str(path) for path in UNIT.glob("*.test.js"))
    assert tests
    done = subprocess.run(
        ["node", "--test", *tests], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
