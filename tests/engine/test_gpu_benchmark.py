"""`benchmarks/gpu.py` measures what it says, on a machine without a GPU too."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Machines with a GPU often cannot install anything: this is all that they have.
THERE = {"torch", "numpy", "tiktoken"}
WITHOUT = """
import runpy, sys
for name in {missing}:
    sys.modules[name] = None
sys.path.insert(0, "benchmarks")
sys.argv = ["benchmarks/gpu.py", *{arguments}]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

pytestmark = pytest.mark.engine


@pytest.mark.timeout(300)
@pytest.mark.parametrize("quantization", ["none", "int4"])
def test_the_benchmark_runs_anywhere_and_reports_everything(
    tmp_path: Path, quantization: str
) -> None:
    report, table = tmp_path / "report.json", tmp_path / "report.md"
    command = [sys.executable, "benchmarks/gpu.py", *arguments(quantization), "--json", str(report)]
    command += ["--markdown", str(table)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=280)
    result = json.loads(report.read_text())
    for what in ("encode_ms", "first_token_ms", "prefill_tokens_s", "images_s"):
        assert result[what]["measured"] > 0
        assert result[what]["roofline"] > 0
    assert [row["batch"] for row in result["decode"]] == [1, 4]
    assert all(row["tokens_s"] > 0 and row["idle_gap_ms"] > 0 for row in result["decode"])
    assert result["baseline"]["tokens_s"] > 0
    assert "| decode at batch 4, tokens/s" in table.read_text()


@pytest.mark.timeout(300)
def test_it_needs_little_more_than_pytorch() -> None:
    """But for the baseline, which is transformers."""
    needed = {re.split("[^a-z0-9-]", requirement)[0] for requirement in requires("sightline") or ()}
    modules = packages_distributions().items()
    missing = [name for name, owners in modules if {*owners} & (needed - THERE)]
    assert {"llguidance", "PIL", "zmq"} < {*missing}
    code = WITHOUT.format(missing=missing, arguments=[*arguments("none"), "--no-baseline"])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=280)


def arguments(quantization: str) -> list[str]:
    where = ["--device", "cpu", "--dtype", "float32"]
    return [*where, "--preset", "tiny", "--quick", "--quantization", quantization]
