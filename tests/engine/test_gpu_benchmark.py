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
def test_it_needs_little_more_than_pytorch(tmp_path: Path) -> None:
    """But for the baseline, which is transformers."""
    needed = {re.split("[^a-z0-9-]", requirement)[0] for requirement in requires("sightline") or ()}
    modules = packages_distributions().items()
    missing = [name for name, owners in modules if {*owners} & (needed - THERE)]
    assert {"llguidance", "PIL", "zmq"} < {*missing}
    here = ["--no-baseline", "--trials", str(tmp_path / "trial")]
    code = WITHOUT.format(missing=missing, arguments=[*arguments("none"), *here])
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=280)


# A benchmark that ends, or hangs, on one kernel after another.
FRAGILE = """
import argparse, os, pathlib, threading
parser = argparse.ArgumentParser()
parser.add_argument("--trials", type=pathlib.Path)
parser.add_argument("--without-kernels", action="append", default=[])
parser.add_argument("--said")
arguments = parser.parse_args()
for name, end in {"norm": os.abort, "linear": threading.Event().wait}.items():
    if name not in arguments.without_kernels:
        arguments.trials.write_text(name)
        end()
arguments.trials.write_text("")
print(arguments.said, *arguments.without_kernels)
"""
ATTEMPT = """
import sys
sys.path.insert(0, "benchmarks")
import gpu_attempts
gpu_attempts.HANG_S = gpu_attempts.LOOK_S = 0.2
sys.exit(gpu_attempts.attempt(sys.argv[1], sys.argv[2:]))
"""


def attempt(script: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ATTEMPT, str(script), *arguments],
        capture_output=True,
        cwd=ROOT,
        text=True,
        timeout=100,
    )


def test_kernels_that_it_does_not_survive_are_left_out(tmp_path: Path) -> None:
    script = tmp_path / "fragile.py"
    script.write_text(FRAGILE)
    done = attempt(script, "--said", "measured without")
    assert done.stdout == "measured without norm linear\n"
    assert done.returncode == 0


def test_what_fails_for_another_reason_fails_once(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text("print('here')\nraise SystemExit(3)")
    done = attempt(script)
    assert (done.stdout, done.returncode) == ("here\n", 3)


def arguments(quantization: str) -> list[str]:
    where = ["--device", "cpu", "--dtype", "float32"]
    return [*where, "--preset", "tiny", "--quick", "--quantization", quantization]
