"""Which weights are quantised, and how many bytes they take, known from names and shapes alone."""

from typing import Any

import pytest

from sightline.core.errors import StartupError
from sightline.models.quantization import (
    Quantization,
    choose_quantization,
    quantized_bytes,
    stored_quantization,
    weight_bytes,
)

INT8 = Quantization(language="int8")
INT4 = Quantization(language="int4", vision="int8")
LAYER = "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight"
TOWER = "transformer.vision.transformer.layers.0.mlp.fc1.weight"
HEAD = "transformer.output_layer.weight"


def test_the_head_is_never_below_int8_and_odd_widths_are_int8() -> None:
    assert INT4.scheme(LAYER, (64, 128)) == "int4"
    assert INT4.scheme(HEAD, (64, 128)) == "int8"
    assert INT4.scheme(LAYER, (64, 120)) == "int8"


def test_language_and_vision_are_chosen_apart() -> None:
    assert choose_quantization("int8", None) == INT8
    assert choose_quantization("int4", None) == INT4
    assert choose_quantization("int4", "none") == Quantization(language="int4")
    assert choose_quantization(None, "int8") == Quantization(vision="int8")
    assert INT8.scheme(TOWER, (64, 128)) is None
    assert not choose_quantization(None, None)


def test_bytes_count_the_scales() -> None:
    assert quantized_bytes((10, 64), "int8") == 10 * 64 + 10 * 4
    assert quantized_bytes((10, 64), "int4") == 10 * 32 + 10 * 2 * 4
    assert weight_bytes(LAYER + "_norm", (64,), INT8) == 128
    assert weight_bytes(TOWER, (10, 64), INT8, itemsize=4) == 2560


def test_what_is_written_into_a_config_is_read_back() -> None:
    for choice in (INT8, INT4, Quantization(vision="int4")):
        assert stored_quantization({"quantization_config": choice.to_config()}) == choice
    assert stored_quantization({}) is None
    assert stored_quantization({"quantization_config": {"quant_method": "gptq"}}) is None


@pytest.mark.parametrize(
    ("key", "value"), [("language", "int3"), ("vision", None), ("group_size", 7)]
)
def test_a_damaged_entry_is_refused_by_name(key: str, value: object) -> None:
    entry: dict[str, Any] = INT8.to_config() | {key: value}
    with pytest.raises(StartupError, match=key):
        stored_quantization({"quantization_config": entry})


def test_a_model_without_pictures_has_one_part() -> None:
    text = INT4.of_model(sees=False)
    assert (str(text), text.to_config()["vision"]) == ("int4", "none")
    assert text == choose_quantization("int4", "none").of_model(sees=False)
    assert not Quantization(vision="int8").of_model(sees=False)
    assert INT4.of_model(sees=True) == INT4
