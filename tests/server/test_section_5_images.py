"""Section 5 of the API's description: where pictures may stand, and what is told of them.

What is read and refused of addresses and files is in `tests/media/test_reference_rows.py`.
"""

from typing import Any

import pytest
from front import PICTURE, Front, chat, serving

from sightline.backends.fake import fake_info
from sightline.core.image_policy import PatchGridImagePolicy, SquareImagePolicy
from sightline.service.chat import ChatOptions

AT = "messages[0].content[0]"
# An image of the fake model: a begin row, 16 rows, an end row.
IMAGE_TOKENS = 18
SQUARE = SquareImagePolicy(size=56, num_tokens=IMAGE_TOKENS)


def said(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return chat("q", **fields) | {"messages": list(messages)}


def shown(part: dict[str, Any], text: str = "x") -> dict[str, Any]:
    return {"role": "user", "content": [part, {"type": "text", "text": text}]}


def picture(**fields: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": PICTURE, **fields}}


FORMS = {
    "an object": {"type": "image_url", "image_url": {"url": PICTURE, "detail": "auto"}},
    "a plain string": {"type": "image_url", "image_url": PICTURE},
    "input_image": {"type": "input_image", "image_url": PICTURE},
    "input_image with an object": {"type": "input_image", "image_url": {"url": PICTURE}},
}


@pytest.mark.parametrize("form", FORMS)
def test_section_5_form(front: Front, form: str) -> None:
    answer = front.post(said(shown(FORMS[form])))
    usage = answer.json()["usage"]["prompt_tokens_details"]
    assert usage["image_tokens"] == IMAGE_TOKENS


def test_section_5_placement_in_any_turn(front: Front) -> None:
    asked = [shown(picture()), {"role": "assistant", "content": "ok"}]
    answer = front.post(said(*asked, {"role": "user", "content": "and now?"}))
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == IMAGE_TOKENS


def test_section_5_placement_in_the_result_of_a_tool(front: Front) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {**shown(picture()), "role": "tool", "tool_call_id": "c"},
    ]
    answer = front.post(said(*messages))
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == IMAGE_TOKENS


def test_section_5_placement_a_text_with_the_placeholder_is_a_text(front: Front) -> None:
    text = "<|begin_of_image|><|endoftext|><|end_of_image|>"
    answer = front.post(said(shown(picture(), text)))
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == IMAGE_TOKENS
    assert answer.json()["choices"][0]["message"]["content"].endswith(text)


@pytest.mark.parametrize("detail", ["low", "high", "original"])
def test_section_5_detail_means_the_normal_processing(front: Front, detail: str) -> None:
    answer = front.post(said(shown(picture(detail=detail))), x_sightline_strict="1")
    assert answer.json()["usage"]["prompt_tokens_details"]["image_tokens"] == IMAGE_TOKENS
    assert answer.headers["x-sightline-warnings"] == f"{AT}.image_url.detail=no-effect"


def test_section_5_detail_auto_needs_no_word(front: Front) -> None:
    answer = front.post(said(shown(picture(detail="auto"))))
    assert "x-sightline-warnings" not in answer.headers


def test_section_5_detail_low_is_what_the_operator_maps_it_to_and_models_say_so() -> None:
    grid = PatchGridImagePolicy(max_pixels=64 * 28**2)
    options = ChatOptions(low_detail_pixels=9 * 28**2)
    for policy, low in ((grid, "at most 7056 pixels"), (SQUARE, "normal processing")):
        info = fake_info(image_policy=policy)
        with serving(Front(engine_options={"info": info}, chat_options=options)) as front:
            told = front.get("/v1/models/sightline-fake").json()["sightline"]["detail"]
            assert (told["low"], told["high"]) == (low, "normal processing")


@pytest.mark.parametrize("bound", ["min_pixels", "max_pixels"])
def test_section_5_bounds_of_a_part_that_the_model_cannot_heed_are_told(
    front: Front, bound: str
) -> None:
    answer = front.post(said(shown(picture(**{bound: 10_000}))))
    assert answer.headers["x-sightline-warnings"] == f"{AT}.image_url.{bound}=fixed-image-size"


@pytest.mark.parametrize("kind", ["image_url", "input_image"])
def test_section_5_bounds_and_detail_may_stand_beside_the_address(front: Front, kind: str) -> None:
    for address in (PICTURE, {"url": PICTURE}):
        part = {"type": kind, "image_url": address, "detail": "high", "max_pixels": 10_000}
        answer = front.post(said(shown(part)))
        assert answer.headers["x-sightline-warnings"] == (
            f"{AT}.detail=no-effect, {AT}.max_pixels=fixed-image-size"
        )
        for name, value in (("detail", "ultra"), ("min_pixels", 20_000)):
            error = front.post(said(shown(part | {name: value}))).json()["error"]
            assert (error["code"], error["param"]) == ("invalid_value", f"{AT}.{name}")


PNG_DIGITS = PICTURE.partition(",")[2]
DECLARED = {
    "data:image/png;base64,": False,
    "DATA:Image/PNG ;charset=x;base64,": False,
    "data:;base64,": False,
    "data:image/jpeg;base64,": True,
    "data:application/octet-stream;base64,": True,
}


@pytest.mark.parametrize("head", DECLARED)
def test_section_5_type_comes_from_the_bytes_and_another_declared_one_is_told(
    front: Front, head: str
) -> None:
    part = {"type": "image_url", "image_url": {"url": head + PNG_DIGITS}}
    answer = front.post(said(shown(part)), x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    told = answer.headers.get("x-sightline-warnings")
    assert told == (f"{AT}.image_url=declared-type-differs" if DECLARED[head] else None)


def test_section_5_type_that_a_server_declares_otherwise_is_told(front: Front) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://pictures.test/misnamed.png"}}
    answer = front.post(said(shown(part)), x_sightline_strict="1")
    assert answer.status_code == 200, answer.text
    told = answer.headers["x-sightline-warnings"]
    assert told == f"{AT}.image_url=declared-type-differs"


def test_section_5_limits_first_frame_only_is_a_warning(front: Front) -> None:
    part = {"type": "image_url", "image_url": {"url": f"{PICTURE}moving"}}
    asked = said(shown(part))
    assert front.post(asked).headers["x-sightline-warnings"] == f"{AT}.image_url=first-frame-only"
    refused = front.post(asked, x_sightline_strict="1")
    assert refused.json()["error"]["code"] == "unsupported_parameter"
    assert refused.json()["error"]["param"] == f"{AT}.image_url"
    assert front.is_idle()


def test_section_5_models_differ_and_say_so(front: Front) -> None:
    told = front.get("/v1/models/sightline-fake").json()["sightline"]
    assert (told["max_images"], told["tokens_per_image"]) == (1, IMAGE_TOKENS)
    assert set(told["detail"]) == {"auto", "low", "high", "original"}


def test_section_5_one_image_models_take_two_images_in_one_message_for_an_error(
    front: Front,
) -> None:
    answer = front.post(chat("q", PICTURE, PICTURE))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "too_many_images")
    assert error["param"] == "messages[0].content[1].image_url"


def test_section_5_one_image_models_keep_the_latest_image(front: Front) -> None:
    history = [shown(picture()), {"role": "assistant", "content": "ok"}, shown(picture())]
    answer = front.post(said(*history))
    assert answer.status_code == 200
    warning = f"{AT}.image_url=dropped-for-a-later-image"
    assert answer.headers["x-sightline-warnings"] == warning
    strict = front.post(said(*history), x_sightline_strict="1")
    assert strict.json()["error"]["code"] == "unsupported_parameter"


def test_section_5_one_image_models_may_be_told_to_refuse() -> None:
    history = [shown(picture()), {"role": "assistant", "content": "ok"}, shown(picture())]
    with serving(Front(chat_options=ChatOptions(extra_images="error"))) as front:
        answer = front.post(said(*history))
    assert answer.json()["error"]["code"] == "too_many_images"
