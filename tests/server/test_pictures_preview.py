"""What the model would see, without asking it anything."""

import base64

from front import PICTURE, Front, chat

PATH = "/v1/pictures/preview"


def test_a_preview_tells_sizes_cost_and_pixels(front: Front) -> None:
    answer = front.post(chat("", PICTURE), path=PATH)
    assert answer.status_code == 200
    (seen,) = answer.json()["data"]
    assert (seen["original_width"], seen["original_height"]) == (640, 480)
    assert (seen["width"], seen["height"], seen["tokens"]) == (112, 112, 18)
    header, _, data = seen["image_url"].partition(",")
    assert header == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG\r\n\x1a\n")


def test_a_preview_asks_the_engine_nothing(front: Front) -> None:
    before = len(front.engine.requests)
    front.post(chat("", PICTURE), path=PATH)
    assert len(front.engine.requests) == before


def test_a_refused_picture_is_refused_as_in_a_chat(front: Front) -> None:
    body = chat("What is this?", "data:broken")
    refusal = front.post(body, path=PATH)
    assert refusal.status_code == 400
    assert refusal.json() == front.post(body).json()
    assert refusal.json()["error"]["param"] == "messages[0].content[0].image_url"


def test_a_chat_without_pictures_has_no_previews(front: Front) -> None:
    assert front.post(chat("hello"), path=PATH).json() == {"object": "list", "data": []}
