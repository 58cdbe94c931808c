"""The bundled model in int8 and int4 is as right as in float32.

A few drawn questions; `python -m training.evaluate --quantization int8` asks many.
"""

import math

import pytest
from training.evaluate import Speaker, examine

from sightline.demo import MODEL_DIR
from sightline.models.quantization import Quantization, choose_quantization

pytestmark = pytest.mark.engine


def right_of(quantization: Quantization | None) -> tuple[int, int]:
    """Return how many answers are right, and how many questions were asked."""
    results = examine(Speaker(MODEL_DIR, "float32", quantization), 20, scale=0.012, num_shown=0)
    rows = [results[f"{wording} wording"] for wording in ("trained", "held-out")]
    return round(sum(row["right"] for row in rows)), round(sum(row["of"] for row in rows))


@pytest.fixture(scope="module")
def plain() -> tuple[int, int]:
    return right_of(None)


def test_the_plain_model_knows_the_answers(plain: tuple[int, int]) -> None:
    right, asked = plain
    assert asked >= 20
    assert right >= 0.8 * asked


@pytest.mark.parametrize(
    ("quantization", "points"),
    [(choose_quantization("int8", None), 1), (choose_quantization("int4", None), 3)],
    ids=str,
)
def test_a_quantised_one_knows_them_too(
    plain: tuple[int, int], quantization: Quantization, points: int
) -> None:
    right, asked = right_of(quantization)
    assert asked == plain[1]
    chance = 1  # of so few questions
    assert right >= plain[0] - math.ceil(points / 100 * asked) - chance
