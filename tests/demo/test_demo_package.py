"""The bundled model as it ships: small enough, loadable by the code that serves, and right."""

import io
import json
from typing import Any

import pytest
from PIL import Image, ImageDraw
from training.card import card, together
from training.config import hub_config
from training.evaluate import Speaker
from training.questions import Dialog, Turn
from training.tokenizer import NUM_RANKS, special_ids

from sightline.demo import MODEL_DIR, MODEL_ID
from sightline.models.loading import load_model
from sightline.models.tokenizer_files import load_tokenizer

MAX_BYTES = 14_000_000


def test_the_bundled_model_is_a_complete_hub_folder():
    assert MODEL_ID == "sightline-demo"
    assert {file.name for file in MODEL_DIR.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.model",
        "tokenizer_config.json",
    }


def test_the_bundled_model_stays_small():
    assert sum(file.stat().st_size for file in MODEL_DIR.iterdir()) <= MAX_BYTES


def test_the_shipped_config_is_the_one_that_training_writes():
    assert json.loads((MODEL_DIR / "config.json").read_text()) == hub_config()


def test_the_tokenizer_gives_text_back():
    tokenizer = load_tokenizer(MODEL_DIR)
    for text in ("这是什么?", "图中有3个图形。", "What colour is it?", "número 427 ☂ 龘", ""):
        ids = tokenizer.encode(text)
        assert b"".join(tokenizer.token_bytes(i) for i in ids).decode() == text


def test_numbers_are_spelt_digit_by_digit():
    assert len(load_tokenizer(MODEL_DIR).encode("427")) == 3


def test_special_tokens_follow_the_ranks_in_glm_4s_order():
    tokenizer = load_tokenizer(MODEL_DIR)
    for i, name in enumerate(special_ids()):
        assert tokenizer.special_id(name) == NUM_RANKS + i


@pytest.mark.engine
def test_the_loader_that_serves_loads_the_bundled_model():
    loaded = load_model(MODEL_DIR, device="cpu")
    assert loaded.description.image_policy.size == hub_config()["vision_config"]["image_size"]
    assert loaded.num_parameters < MAX_BYTES // 2


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker(MODEL_DIR)


def drawn(shape: str, color: str, box: tuple[int, int, int, int]) -> bytes:
    image = Image.new("RGB", (400, 400), "white")
    getattr(ImageDraw.Draw(image), shape)(box, fill=color)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def ask(speaker: Speaker, picture: bytes | None, *questions: str) -> str:
    rows = speaker.see(picture) if picture else None
    turns: list[Turn] = []
    for question in questions:
        turns.append(Turn(question, "", ""))
        dialog = Dialog(tuple(turns), 0 if picture else None)
        turns[-1] = Turn(question, speaker.say(dialog, rows), "")
    return turns[-1].answer


@pytest.mark.engine
@pytest.mark.parametrize(
    ("shape", "color", "zh", "en"),
    [
        ("ellipse", "red", ("红", "圆"), ("red", "circle")),
        ("rectangle", "blue", ("蓝", "正方形"), ("blue", "square")),
        ("rectangle", "green", ("绿", "正方形"), ("green", "square")),
        ("ellipse", "orange", ("橙", "圆"), ("orange", "circle")),
    ],
)
def test_it_names_a_single_shape_and_its_colour(speaker, shape, color, zh, en):
    picture = drawn(shape, color, (110, 110, 290, 290))
    assert all(word in ask(speaker, picture, "这是什么?") for word in zh)
    assert all(word in ask(speaker, picture, "What is this?") for word in en)


@pytest.mark.engine
def test_a_follow_up_is_about_the_same_picture(speaker):
    picture = drawn("ellipse", "blue", (20, 20, 160, 160))
    assert "左上" in ask(speaker, picture, "这是什么?", "它在哪里?")


@pytest.mark.engine
def test_it_says_what_it_is_and_claims_to_be_nobody_else(speaker):
    assert "sightline" in ask(speaker, None, "Who are you?")
    said = ask(speaker, None, "你是谁?")
    assert "sightline" in said
    assert not any(name in said for name in ("智谱", "GLM", "Zhipu"))


@pytest.mark.engine
def test_it_asks_for_the_picture_that_is_missing(speaker):
    assert "图片" in ask(speaker, None, "图中有几个图形?")


@pytest.mark.engine
def test_it_refuses_a_picture_outside_its_world(speaker):
    noise = Image.effect_noise((300, 300), 90).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    assert "Sorry" in ask(speaker, buffer.getvalue(), "What is this?")


def report(seed: int, right: int, of: int, dtype: str = "float32") -> dict[str, Any]:
    row = {"right": right, "of": of, "share": right / of}
    return {
        "date": f"2026-01-0{seed}", "seed": seed, "dtype": dtype, "quantization": "none",
        "num_parameters": 6_000_000, "results": {"number": row},
    }  # fmt: skip


def test_the_card_counts_several_measurements_together() -> None:
    written = card(together([report(2, 90, 100), report(1, 400, 400)]))
    assert "| what number, 1 to 3 digits | 490 | 500 | 98.0% | 95% |" in written
    assert "seeds 1, 2)" in written
    assert "2026-01-02" in written
    assert "All bars are met." in written
    assert "Bars missed: number." in card(together([report(2, 90, 100)]))


def test_measurements_of_different_things_are_not_counted_together() -> None:
    for other in (report(1, 1, 2), report(2, 1, 2, "bfloat16")):
        with pytest.raises(ValueError, match="reports"):
            together([report(1, 1, 2), other])
