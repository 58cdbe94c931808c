"""The GPU's kernels compile for the cards that people have, and fit their shared memory."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from gpu_kernels import HAS_TRITON, needs_triton

if HAS_TRITON:
    import triton

    from sightline.models.gpu.dependent_launch import IS_KNOWN

    TRITON = tuple(map(int, triton.__version__.split(".")[:2]))

pytestmark = pytest.mark.engine
SCRIPT = Path(__file__).parents[1] / "support" / "compile_kernels.py"
LAYERS = 3 + 2 * 2  # with few rows, as they are and quantised: see the script


@pytest.fixture(scope="module", params=[75, 89, 90, 100, 120])
def launches(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    needs_triton()
    if request.param >= 100 and TRITON < (3, 3):
        pytest.skip("this Triton is older than the card")
    # Another process: Triton decides when it is imported whether it interprets.
    environment = {name: v for name, v in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, SCRIPT, str(request.param)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_attention_fits(launches: list[dict[str, Any]]) -> None:
    attention = [each for each in launches if "attend" in each["kernel"]]
    assert len(attention) == (8 if is_possible_on(launches) else 6)
    assert all(each["shared"] <= each["limit"] for each in attention), attention


def test_every_layer_has_tiles_that_fit(launches: list[dict[str, Any]]) -> None:
    fitting = defaultdict(int)
    for each in launches:
        constants = each["constants"]
        if each["kernel"] == "few_rows":
            layer = constants["NUM_OUTPUTS"], constants["IS_GATED"], constants["BITS"]
            fitting[layer] += each["shared"] <= each["limit"]
    if launches[0]["capability"] >= 80:
        assert len(fitting) == LAYERS
        assert all(fitting.values()), fitting


def test_quantised_weights_are_multiplied_on_every_card(launches: list[dict[str, Any]]) -> None:
    """By the tiles that nothing is measured for: one row, the most rows, and all the others."""
    formats = {each["constants"]["BITS"] for each in launches if each["kernel"] == "dequantize"}
    assert formats == {8, 4}
    alone = [each for each in launches if is_of_a_quantised_layer_alone(each)]
    assert len(alone) == 2 * 3
    assert all(each["shared"] <= each["limit"] for each in alone), alone


def test_tensor_cores_multiply(launches: list[dict[str, Any]]) -> None:
    """Not on Turing: there the clock has to find out what our kernels are good for."""
    if launches[0]["capability"] >= 80:
        for each in launches:
            is_product = each["kernel"] in ("attend_decodes", "attend_chunks", "few_rows")
            assert each["has_tensor_product"] == is_product, each


def test_dependent_kernels_wait_before_they_touch_anything(launches: list[dict[str, Any]]) -> None:
    """All but calls for weights; and one that is launched after another need not wait at all."""
    assert all(each["waits_first"] == each["is_dependent"] for each in launches), launches
    names = {each["kernel"] for each in launches if each["is_dependent"]}
    wanted = {"attend_decodes", "merge_splits", "few_rows"} if is_possible_on(launches) else set()
    assert names == wanted


def is_possible_on(launches: list[dict[str, Any]]) -> bool:
    return IS_KNOWN and launches[0]["capability"] >= 90


def is_of_a_quantised_layer_alone(launch: dict[str, Any]) -> bool:
    constants = launch["constants"]
    if launch["kernel"] == "few_rows":
        return constants["BITS"] < 16 and not constants["HAS_NORM"]
    return bool(launch["kernel"] == "dequantize")
