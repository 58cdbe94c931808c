"""`benchmarks/gpu.py` measures what it says, on a machine without a GPU too."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.engine


@pytest.mark.timeout(300)
@pytest.mark.parametrize("quantization", ["none", "int4"])
def test_the_benchmark_runs_anywhere_and_reports_everything(
    tmp_path: Path, quantization: str
) -> None:
    report, table = tmp_path / "report.json", tmp_path / "report.md"
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--dtype", "float32"]
    command += ["--preset", "tiny", "--quick", "--quantization", quantization]
    command += ["--json", str(report), "--markdown", str(table)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True, timeout=280)
    result = json.loads(report.read_text())
    for what in ("encode_ms", "first_token_ms", "prefill_tokens_s", "images_s"):
        assert result[what]["measured"] > 0
        assert result[what]["roofline"] > 0
    assert [row["batch"] for row in result["decode"]] == [1, 4]
    assert all(row["tokens_s"] > 0 and row["idle_gap_ms"] > 0 for row in result["decode"])
    assert result["baseline"]["tokens_s"] > 0
    assert "| decode at batch 4, tokens/s" in table.read_text()
