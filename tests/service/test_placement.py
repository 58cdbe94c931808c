"""Which images the model sees: the latest, never two where one is taken, never silently."""

from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.core.errors import RequestError
from sightline.service.placement import place_images

place = partial(place_images, max_images=1, extra_images="latest", model_id="M")


def pictures(kit, turn: int, *parts: int):
    return [
        kit.image(f"{turn}-{i}.png", param=f"messages[{turn}].content[{i}].image_url")
        for i in parts
    ]


def params(placement) -> list[str]:
    return [image.param for message in placement.messages for image in message.images]


def test_text_is_left_as_it_is(kit) -> None:
    turns = (kit.message("user", "hi"),)
    assert place(turns, max_images=0).messages == turns


def test_a_text_only_model_refuses_images(kit) -> None:
    turns = [kit.message("user", "hi"), kit.message("user", *pictures(kit, 1, 0))]
    with pytest.raises(RequestError) as caught:
        place(turns, max_images=0)
    assert caught.value.code == "image_input_not_supported"
    assert caught.value.param == "messages[1].content[0].image_url"
    assert caught.value.message == "Model 'M' takes no images."


def test_two_images_in_one_message_are_refused_at_the_second(kit) -> None:
    with pytest.raises(RequestError) as caught:
        place([kit.message("user", *pictures(kit, 0, 0, 2, 3), "hi")])
    assert caught.value.code == "too_many_images"
    assert caught.value.param == "messages[0].content[2].image_url"
    assert caught.value.message == "3 images given, at most 1 for 'M'."


def history(kit):
    return [
        kit.message("user", "first", *pictures(kit, 0, 1)),
        kit.message("assistant", "a cat"),
        kit.message("user", "second", *pictures(kit, 2, 1)),
        kit.message("assistant", "a dog"),
        kit.message("user", "and its colour?"),
    ]


def test_earlier_images_give_way_to_the_latest_with_a_notice(kit) -> None:
    placement = place(history(kit))
    assert params(placement) == ["messages[2].content[1].image_url"]
    assert [message.text for message in placement.messages] == [m.text for m in history(kit)]
    (notice,) = placement.notices
    assert (notice.field, notice.severity) == ("messages[0].content[1].image_url", "warn")


def test_a_server_that_refuses_extra_images_names_the_first_one_too_many(kit) -> None:
    with pytest.raises(RequestError) as caught:
        place(history(kit), extra_images="error")
    assert caught.value.code == "too_many_images"
    assert caught.value.param == "messages[2].content[1].image_url"
    assert caught.value.message == "2 images given, at most 1 for 'M'."


def test_an_old_message_with_two_images_does_not_end_the_conversation(kit) -> None:
    turns = [
        kit.message("user", *pictures(kit, 0, 0, 1)),
        kit.message("user", *pictures(kit, 1, 0)),
    ]
    placement = place(turns)
    assert params(placement) == ["messages[1].content[0].image_url"]
    assert len(placement.notices) == 2


def test_a_model_of_several_images_keeps_the_latest_messages_that_fit(kit) -> None:
    turns = [kit.message("user", *pictures(kit, i, *range(n))) for i, n in enumerate((1, 2, 1))]
    assert len(params(place(turns, max_images=4))) == 4
    assert params(place(turns, max_images=3))[0].startswith("messages[1]")
    assert params(place(turns, max_images=2)) == ["messages[2].content[0].image_url"]


@settings(deadline=None)
@given(counts=st.lists(st.integers(0, 4), max_size=8), max_images=st.integers(1, 5))
def test_every_image_is_kept_or_named(kit, counts, max_images) -> None:
    turns = [
        kit.message("user", "hi", *pictures(kit, turn, *range(1, n + 1)))
        for turn, n in enumerate(counts)
    ]
    given_params = [image.param for turn in turns for image in turn.images]
    latest = next((n for n in reversed(counts) if n), 0)
    if latest > max_images:
        with pytest.raises(RequestError, match="images given"):
            place(turns, max_images=max_images)
        return
    placement = place(turns, max_images=max_images)
    dropped = [notice.field for notice in placement.notices]
    assert dropped + params(placement) == given_params
    assert len(params(placement)) <= max_images
    assert not given_params or params(placement)
    if sum(counts) <= max_images:
        assert not dropped
