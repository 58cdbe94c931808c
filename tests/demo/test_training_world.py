"""The pieces that trained the bundled model: truth in, truth out."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from training.answers import REFUSAL, Query, answer, noun
from training.drawing import draw_number
from training.exam import shapes_picture
from training.phrases import HELD_OUT, TRAINED, expand
from training.pictures import draw, to_record, to_scene
from training.questions import draw_query, picture_dialog, text_dialog
from training.targets import IGNORE, NO_DIGIT, make_targets
from training.world import (
    COLORS,
    MAX_THINGS,
    PROTOTYPES,
    SHAPES,
    Scene,
    Thing,
    name_of,
    place,
    sample_color,
    things_of,
)

seeds = st.integers(0, 2**32)


def scene_of(seed: int) -> Scene:
    rng = Random(seed)
    side = rng.choice((96, 200, 640))
    placed = place(rng, rng.randint(1, MAX_THINGS), side, side, ((255, 255, 255),))
    return Scene("shapes", things_of(placed, side, side))


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_shapes_never_overlap_and_never_leave_the_canvas(seed):
    things = scene_of(seed).things
    assert 1 <= len(things) <= MAX_THINGS
    for i, a in enumerate(things):
        assert a.half_width <= a.x <= 1 - a.half_width + 1e-6
        assert a.half_height <= a.y <= 1 - a.half_height + 1e-6
        for b in things[i + 1 :]:
            assert (
                abs(a.x - b.x) >= a.half_width + b.half_width
                or abs(a.y - b.y) >= a.half_height + b.half_height
            )


@pytest.mark.parametrize("color", COLORS)
def test_a_sampled_colour_is_called_by_its_name(color):
    rng = Random(3)
    for _ in range(200):
        rgb = sample_color(rng, color)
        assert rgb in PROTOTYPES[color] or name_of(rgb) == color


def test_a_picture_depends_on_its_seed_only():
    first, again = (draw(Random("1/7")) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert first[1] == again[1]
    assert not np.array_equal(first[0], draw(Random("1/8"))[0])


@pytest.mark.parametrize("index", range(8))
def test_a_scene_survives_its_record(index):
    _, scene = draw(Random(f"record/{index}"))
    back = to_scene(to_record(scene))
    assert (back.kind, back.number, back.number_color) == (
        scene.kind,
        scene.number,
        scene.number_color,
    )
    assert [(t.shape, t.color) for t in back.things] == [(t.shape, t.color) for t in scene.things]


def test_a_mirrored_record_moves_left_to_right():
    scene = Scene("shapes", (Thing("star", "red", 0.2, 0.7, 0.1, 0.1),))
    mirrored = to_scene(to_record(scene), is_mirrored=True)
    assert answer(mirrored, Query("where", shape="star"), "en") == (
        "The star is at the bottom right of the picture."
    )


TWO = Scene(
    "shapes",
    (Thing("circle", "red", 0.2, 0.2, 0.1, 0.1), Thing("square", "blue", 0.8, 0.5, 0.1, 0.1)),
)


@pytest.mark.parametrize(
    ("query", "zh", "en"),
    [
        (Query("count"), "图中有2个图形。", "There are 2 shapes."),
        (Query("color_of", shape="circle"), "圆形是红色的。", "The circle is red."),
        (Query("shape_of", color="blue"), "蓝色的图形是正方形。", "The blue shape is a square."),
        (Query("is_there", shape="star"), "没有，图中没有星形。", "No, there is no star."),
        (
            Query("where", shape="square"),
            "正方形在画面的右边。",
            "The square is on the right of the picture.",
        ),
        (
            Query("what"),
            "图中有2个图形：一个红色的圆形和一个蓝色的正方形。",
            "There are 2 shapes: a red circle and a blue square.",
        ),
    ],
    ids=lambda value: value.topic if isinstance(value, Query) else "",
)
def test_an_answer_says_what_is_in_the_picture(query, zh, en):
    assert answer(TWO, query, "zh") == zh
    assert answer(TWO, query, "en") == en


@given(seeds)
@settings(max_examples=100, deadline=None)
def test_yes_and_no_agree_with_the_scene(seed):
    scene, rng = scene_of(seed), Random(seed)
    query = draw_query(rng, scene, {"is_there": 1.0})
    is_there = any(query.matches(thing) for thing in scene.things)
    assert answer(scene, query, "en").startswith("Yes" if is_there else "No")
    assert answer(scene, query, "zh").startswith("有" if is_there else "没有")


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_a_description_is_two_sentences_that_name_every_thing(seed):
    scene = scene_of(seed)
    said = answer(scene, Query("describe"), "zh")
    assert said.count("。") == 2
    for thing in scene.things:
        assert noun(thing.shape, thing.color, "zh") in said


def test_an_unknown_picture_is_refused_whatever_is_asked():
    rng = Random(5)
    for _ in range(50):
        query = draw_query(rng, Scene("other"))
        assert answer(Scene("other"), query, "zh") == REFUSAL["zh"]


@given(seeds)
@settings(max_examples=80, deadline=None)
def test_no_question_is_left_with_a_gap(seed):
    rng = Random(seed)
    dialogs = [picture_dialog(rng, scene_of(seed), rng.randint(1, 3)), text_dialog(rng)]
    for turn in (turn for dialog in dialogs for turn in dialog.turns):
        assert turn.question.strip()
        assert turn.answer.strip()
        assert not set("{}|") & set(turn.question + turn.answer)


@pytest.mark.parametrize("topic", sorted(HELD_OUT))
@pytest.mark.parametrize("language", ["zh", "en"])
def test_held_out_wordings_are_not_trained_ones(topic, language):
    rng = Random(1)
    trained = {expand(rng, rng.choice(TRAINED[topic][language])) for _ in range(3000)}
    assert not trained & set(HELD_OUT[topic][language])


def test_targets_put_a_thing_where_it_is():
    records = np.stack([to_record(TWO)])
    targets = make_targets(records, grid=4)
    circle_cell, square_cell = 0, 2 * 4 + 3
    assert targets.centre[0].sum() == 2
    assert targets.centre[0, circle_cell].argmax() == SHAPES.index("circle") * 8
    assert targets.centre[0, square_cell].argmax() == SHAPES.index("square") * 8 + 2
    assert targets.shape[0, circle_cell, 3] == SHAPES.index("circle")
    assert targets.count.tolist() == [2]


@pytest.mark.parametrize("index", range(12))
def test_digits_stand_where_their_boxes_say(index):
    """A turned number's boxes stay upright, and fonts lean out of them: hence the margin."""
    paper = Image.new("RGB", (300, 240), (255, 255, 255))
    image, _, boxes = draw_number(Random(f"ink/{index}"), paper, ((255, 255, 255),), "408")
    ink = np.asarray(image).min(axis=-1) < 200
    seen = np.zeros_like(ink)
    for x, y, half_width, half_height in boxes:
        left, right = (x - half_width - 0.03) * 300, (x + half_width + 0.03) * 300
        top, bottom = (y - half_height - 0.05) * 240, (y + half_height + 0.05) * 240
        box = np.s_[max(0, int(top)) : int(bottom) + 1, max(0, int(left)) : int(right) + 1]
        assert ink[box].any()
        seen[box] = True
    assert (ink & ~seen).sum() <= 0.02 * ink.sum()
    assert boxes[0][0] < boxes[1][0] < boxes[2][0]


def test_targets_say_which_digit_stands_on_a_patch():
    boxes = ((0.2, 0.5, 0.05, 0.15), (0.7, 0.5, 0.05, 0.15))
    known = to_record(Scene("number", number="73", digit_boxes=boxes))
    unknown = to_record(Scene("number", number="73"))
    targets = make_targets(np.stack([known, unknown, to_record(TWO)]), grid=4)
    left, right, corner = 1 * 4 + 0, 1 * 4 + 2, 0
    assert targets.strokes[0, left].tolist() == [NO_DIGIT, NO_DIGIT, NO_DIGIT, 7]
    assert targets.strokes[0, right, 3] == 3
    assert targets.order[0, left, 3] == 0
    assert targets.order[0, right, 3] == 1
    assert targets.strokes[0, corner, 0] == NO_DIGIT
    assert (targets.strokes[1] == IGNORE).all()
    assert (targets.order[1] == IGNORE).all()
    assert (targets.strokes[2] == NO_DIGIT).all(), "a picture of shapes has no digits"


def test_the_examiner_draws_what_it_says():
    picture, scene = shapes_picture(Random(4), 3)
    assert len(scene.things) == 3
    assert picture[:4] in (b"\x89PNG", b"RIFF") or picture[:2] == b"\xff\xd8"
