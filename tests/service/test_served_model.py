"""Names: what a model is called, and what it answers to."""

import pytest

from sightline.backends.fake import fake_info
from sightline.core.errors import RequestError
from sightline.service.served_model import ServedModel


def model(**kwargs) -> ServedModel:
    kwargs = {"served_name": None, "aliases": (), **kwargs}
    return ServedModel.of(fake_info(model_id="THUDM/glm-4v-9b", aliases=("glm-4v",)), **kwargs)


def test_a_model_answers_to_its_id_and_all_aliases() -> None:
    served = model(aliases=("eyes", "glm-4v"))
    assert served.names == ("THUDM/glm-4v-9b", "glm-4v", "eyes")
    for name in served.names:
        served.require_name(name)


def test_a_served_name_takes_the_place_of_the_id() -> None:
    served = model(served_name="eyes")
    assert served.id == "eyes"
    with pytest.raises(RequestError):
        served.require_name("THUDM/glm-4v-9b")


def test_an_unknown_model_is_told_what_there_is() -> None:
    with pytest.raises(RequestError) as caught:
        model().require_name("gpt-4")
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert caught.value.message == (
        "The model 'gpt-4' does not exist. Available: THUDM/glm-4v-9b, glm-4v."
    )


def test_a_refusal_stays_short_and_printable_whatever_was_asked_for() -> None:
    with pytest.raises(RequestError) as caught:
        model(aliases=tuple("x" * 200 + str(i) for i in range(50))).require_name("\n\x1b[31m" * 99)
    assert len(caught.value.message) <= 300
    assert caught.value.message.isprintable()


def test_names_are_matched_exactly() -> None:
    for name in ("", "GLM-4V", "glm-4v ", "THUDM"):
        with pytest.raises(RequestError):
            model().require_name(name)
