import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.models import parity

pytestmark = pytest.mark.engine


@pytest.fixture
def golden_copy(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden / "glm4v-a", tmp_path / "case"))


def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = parity.main([str(folder)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("case", ["glm4v-a", "glm4v-b-rope500-kv4", "glm4v-c-text"])
def test_golden_folders_agree(golden: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(golden / case, capsys)
    result = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert result.pop("positions_equal") is True
    assert set(result) == {
        "features_max_abs_diff",
        "logits_max_abs_diff",
        "cached_logits_max_abs_diff",
    }
    assert all(0 <= value <= 1e-4 for value in result.values())


@pytest.mark.parametrize("case", ["qwenvl-a-one-image", "qwenvl-b-two-images-ntk"])
def test_golden_folders_without_positions_agree(
    golden: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(golden / case, capsys)
    result = json.loads(out)
    assert code == 0
    assert result.pop("positions_equal") is None
    assert len(result) == 3
    assert all(0 <= value <= 1e-4 for value in result.values())


def test_a_difference_is_seen_where_it_is(
    golden_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = golden_copy / "expected.safetensors"
    expected = load_file(path)
    expected["logits"][0, 20, 3] += 0.5
    expected["position_ids"][0, 20] += 1
    save_file(expected, path)
    result = json.loads(run(golden_copy, capsys)[1])
    assert result["features_max_abs_diff"] <= 1e-4
    assert result["logits_max_abs_diff"] == pytest.approx(0.5, abs=1e-4)
    assert result["cached_logits_max_abs_diff"] == pytest.approx(0.5, abs=1e-4)
    assert result["positions_equal"] is False


def test_not_a_number_is_null(golden_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = golden_copy / "expected.safetensors"
    expected = load_file(path)
    expected["logits"][0, 0, 0] = float("nan")
    save_file(expected, path)
    assert json.loads(run(golden_copy, capsys)[1])["logits_max_abs_diff"] is None


def test_an_image_at_the_very_end_is_compared_too(
    golden_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is left to decode after it."""
    inputs = load_file(golden_copy / "inputs.safetensors")
    expected = load_file(golden_copy / "expected.safetensors")
    inputs["input_ids"] = inputs["input_ids"][:, :7].clone()
    for name in ("logits", "position_ids", "last_hidden_state"):
        expected[name] = expected[name][:, :22].clone()
    save_file(inputs, golden_copy / "inputs.safetensors")
    save_file(expected, golden_copy / "expected.safetensors")
    result = json.loads(run(golden_copy, capsys)[1])
    assert result["positions_equal"] is True
    assert result["cached_logits_max_abs_diff"] <= 1e-4


def test_an_unsupported_family_is_one_line(
    golden_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((golden_copy / "config.json").read_text())
    (golden_copy / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    code, out, err = run(golden_copy, capsys)
    assert (code, out) == (1, "")
    assert err.startswith("parity: config.json: model_type 'llama' is not supported yet; supported")
    assert err.count("\n") == 1


def test_a_folder_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(tmp_path / "none", capsys)
    assert (code, out, err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("name", ["inputs.safetensors", "expected.safetensors"])
def test_a_missing_file_is_named(
    golden_copy: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (golden_copy / name).unlink()
    code, _, err = run(golden_copy, capsys)
    assert code == 1
    assert err.startswith(f"parity: {name} is missing")


@pytest.mark.parametrize(
    ("file", "tensor", "value", "message"),
    [
        ("inputs", "input_ids", torch.full((1, 9), 200), "has ids outside the vocabulary"),
        ("inputs", "input_ids", torch.full((1, 9), -1), "has ids outside the vocabulary"),
        ("inputs", "input_ids", torch.full((2, 9), 1), "is int64 [2, 9], expected int64 [1, N]"),
        ("inputs", "input_ids", torch.zeros(1, 9), "is float32 [1, 9], expected int64 [1, N]"),
        ("inputs", "input_ids", torch.zeros(1, 0).long(), "expected int64 [1, N]"),
        ("inputs", "input_ids", torch.full((1, 9), 190), "has 9 images, 'pixel_values' has 1"),
        ("inputs", "pixel_values", torch.zeros(1, 3, 9, 9), "expected float32 [N, 3, 112, 112]"),
        ("expected", "logits", torch.zeros(1, 5, 200), "expected float32 [1, 35, 200]"),
        ("expected", "position_ids", torch.zeros(1, 35), "expected int64 [1, 35]"),
    ],
)
def test_an_unfit_tensor_is_named(
    golden_copy: Path,
    file: str,
    tensor: str,
    value: torch.Tensor,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = golden_copy / f"{file}.safetensors"
    save_file(load_file(path) | {tensor: value}, path)
    code, out, err = run(golden_copy, capsys)
    assert (code, out) == (1, "")
    assert err.startswith(f"parity: {file}.safetensors: {tensor!r}")
    assert message in err


def test_a_tensor_that_is_not_there_is_named(
    golden_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = golden_copy / "expected.safetensors"
    expected = load_file(path)
    del expected["logits"]
    save_file(expected, path)
    assert run(golden_copy, capsys)[2] == (
        "parity: expected.safetensors lacks 'logits', expected float32 [1, 35, 200].\n"
    )


def test_it_runs_as_a_module(golden: Path) -> None:
    command = [sys.executable, "-m", "sightline.models.parity", str(golden / "glm4v-a")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["positions_equal"] is True
    assert done.stderr == ""
