"""What the engine measures: a step tried for its memory, budgets, what it says of itself."""

from pathlib import Path

import pytest
import torch

from sightline.core.engine_options import EngineOptions
from sightline.core.errors import StartupError
from sightline.demo import MODEL_DIR
from sightline.engine.build import build_engine
from sightline.engine.memory import measure_step, weight_bytes
from sightline.models.device_memory import cpu_keeps_halves
from sightline.models.facts import read_facts
from sightline.models.footprint import Footprint, pictures_at_once
from sightline.models.loading import LoadedModel, load_model
from sightline.models.packed_weight import can_pack_half
from sightline.models.packing import pack_linears

pytestmark = pytest.mark.engine
CPU = torch.device("cpu")


class Meter:
    """Says that pictures take 300 bytes and a step 7000, one after the other."""

    def __init__(self) -> None:
        self.peaks = iter((300, 7000))
        self.has_started = False

    def start(self) -> None:
        self.has_started = True

    def peak(self) -> int:
        assert self.has_started
        self.has_started = False
        return next(self.peaks)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load_model(MODEL_DIR, device="cpu", dtype="float32")


def test_a_step_is_tried_with_as_many_of_the_largest_pictures_as_are_encoded_together(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    encode, logits = loaded.model.encode_images, loaded.model.logits

    def note_pixels(pixels: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(pixels.shape))
        return encode(pixels)

    def note_rows(hidden: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(hidden.shape))
        return logits(hidden)

    monkeypatch.setattr(loaded.model, "encode_images", note_pixels)
    monkeypatch.setattr(loaded.model, "logits", note_rows)
    # Both: memory of the stream of pictures is not that of the steps.
    taken = measure_step(loaded.model, CPU, Meter(), num_tokens=96, num_sampled=8, context=256)
    assert taken == 300 + 7000
    side = read_facts(MODEL_DIR).image_policy
    assert side is not None
    width, height = side.target_size(1, 1)
    number = pictures_at_once(width, height)
    hidden_size = read_facts(MODEL_DIR).blueprint.hidden_size
    assert number > 1
    assert shapes == [(number, height, width, 3), (8, hidden_size)]


def test_a_device_that_has_not_enough_for_a_step_is_said_so(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(pixels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loaded.model, "encode_images", fail)
    with pytest.raises(StartupError, match="not enough memory beside the weights"):
        measure_step(loaded.model, CPU, Meter(), num_tokens=96, num_sampled=8, context=256)


def test_an_engine_says_what_it_took_and_that_is_what_was_told_before(tmp_path: Path) -> None:
    options = EngineOptions(model=str(MODEL_DIR), dtype="float32", device="cpu", max_model_len=256)
    info = build_engine(options, lambda done, total: None).info
    halves = can_pack_half(torch.float32)
    told = Footprint(
        facts=read_facts(MODEL_DIR), dtype="float32", keeps_halves=halves, keeps_table=True
    )
    assert cpu_keeps_halves() == halves
    assert info.weight_bytes == told.weight_bytes
    assert info.kv_bytes == told.kv_token_bytes * info.kv_slots
    assert info.kv_slots == 32 * 256  # as many contexts as a small model gets
    assert info.held_bytes > info.weight_bytes


def test_weights_are_counted_before_and_after_they_are_packed() -> None:
    loaded = load_model(MODEL_DIR, device="cpu", dtype="float32")
    before = weight_bytes(loaded.model)
    assert before == 4 * loaded.num_parameters
    pack_linears(loaded.model)
    after = weight_bytes(loaded.model)
    assert before // 2 <= after < before if can_pack_half(torch.float32) else after == before
    assert weight_bytes(object()) == 0
