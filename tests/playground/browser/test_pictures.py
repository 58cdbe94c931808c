"""Pictures come in from everywhere, and what is wrong with one is said where it is."""

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Open, ask, wait_for_answer
from front import Front

from sightline.backends.fake import Reply

if TYPE_CHECKING:
    from playwright.sync_api import JSHandle, Page

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def transfer(page: "Page", picture: Path) -> "JSHandle":
    """A DataTransfer that holds the picture as a file, as a drag or the clipboard would."""
    return page.evaluate_handle(
        """(data) => {
          const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "circle.png", { type: "image/png" }));
          return transfer;
        }""",
        base64.b64encode(picture.read_bytes()).decode(),
    )


def sent_picture(page: "Page") -> str:
    with page.expect_request("**/chat/completions") as sent:
        ask(page, "What is this?")
    content = sent.value.post_data_json["messages"][-1]["content"]
    assert content[1] == {"type": "text", "text": "What is this?"}
    url: str = content[0]["image_url"]["url"]
    wait_for_answer(page)
    return url


def data_url(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def test_a_dropped_picture_is_shown_with_its_size_and_cost(
    front: Front, visit: Open, picture: Path
) -> None:
    page = visit().page
    page.dispatch_event("#main", "drop", {"dataTransfer": transfer(page, picture)})
    page.get_by_text("18 tokens", exact=True).wait_for()
    tray = page.locator(".tray-item").inner_text()
    assert "circle.png" in tray
    assert "PNG" in tray
    assert sent_picture(page) == data_url(picture)
    assert page.locator(".question img").count() == 1


def test_a_pasted_picture(front: Front, visit: Open, picture: Path) -> None:
    page = visit().page
    page.evaluate(
        """(clipboardData) => document.getElementById("message").dispatchEvent(
          new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }))""",
        transfer(page, picture),
    )
    page.locator(".tray-cost").wait_for()
    assert sent_picture(page) == data_url(picture)


def test_a_chosen_file_can_be_taken_away_again(front: Front, visit: Open, picture: Path) -> None:
    page = visit().page
    page.locator(".composer input[type=file]").set_input_files([picture, picture])
    page.locator(".tray-cost").nth(1).wait_for()
    page.get_by_role("button", name="Remove circle.png").first.click()
    assert page.locator(".tray-item").count() == 1
    assert sent_picture(page) == data_url(picture)


def test_a_picture_by_address_is_fetched_by_the_server_alone(front: Front, visit: Open) -> None:
    page = visit().page
    page.get_by_role("button", name="Picture from an address").click()
    page.get_by_label("Address of the picture").fill("https://pictures.example/cat.png")
    page.keyboard.press("Enter")
    page.locator(".tray-cost").wait_for()
    assert page.locator(".tray-item img").get_attribute("src").startswith("data:image/png")
    assert "640 × 480" in page.locator(".tray-item").inner_text()
    assert sent_picture(page) == "https://pictures.example/cat.png"


def test_a_picture_from_the_camera(front: Front, visit: Open) -> None:
    page = visit(permissions=["camera"]).page
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()
    page.locator(".tray-cost").wait_for()
    assert sent_picture(page).startswith("data:image/jpeg;base64,")


def test_an_example_is_one_click_and_enter(front: Front, visit: Open) -> None:
    page = visit().page
    page.get_by_role("button", name="What number is this?").click()
    page.locator(".tray-cost").wait_for()
    page.keyboard.press("Enter")
    wait_for_answer(page)
    assert page.locator(".bubble").inner_text() == "What number is this?"


def test_a_refused_picture_says_why_in_place_and_is_not_sent(front: Front, visit: Open) -> None:
    made = visit()
    made.expect("400 (Bad Request)")
    page = made.page
    page.locator("#message").fill("What is this?")
    page.get_by_role("button", name="Picture from an address").click()
    page.get_by_label("Address of the picture").fill("https://pictures.example/broken.png")
    page.keyboard.press("Enter")
    page.get_by_text("The image is damaged or cut short.").wait_for()
    assert page.get_by_role("button", name="Send").is_disabled()
    page.get_by_role("button", name="Remove broken.png").click()
    assert page.get_by_role("button", name="Send").is_enabled()


def test_too_many_pictures_are_refused_before_they_are_sent(
    front: Front, visit: Open, picture: Path
) -> None:
    made = visit()
    made.expect("400 (Bad Request)")
    page = made.page
    page.locator(".composer input[type=file]").set_input_files([picture, picture])
    page.locator("#message").fill("Which is rounder?")
    page.locator(".meter.problem").wait_for()
    assert "at most 1" in page.locator(".meter").inner_text()


def test_the_meter_tells_how_much_of_the_window_is_taken(
    front: Front, visit: Open, picture: Path
) -> None:
    page = visit().page
    page.locator(".composer input[type=file]").set_input_files(picture)
    page.locator("#message").fill("What is this?")
    page.locator(".meter", has_text="of 4,096 tokens").wait_for()


def test_what_the_model_saw_is_shown_with_its_grid(
    front: Front, visit: Open, picture: Path
) -> None:
    page = visit().page
    page.locator(".composer input[type=file]").set_input_files(picture)
    page.locator(".tray-cost").wait_for()
    ask(page, "What is this?")
    wait_for_answer(page)
    page.locator(".answer").get_by_role("button", name="What the model saw").click()
    caption = page.locator(".seen-caption")
    caption.wait_for()
    assert caption.inner_text() == "640 × 480 → 112 × 112 pixels · 4 × 4 grid, 18 tokens"
    assert page.get_by_text("trained on squares").is_visible()
    page.get_by_label("Show the token grid").check()
    assert page.locator(".token-grid.shown").count() == 1


BOXED = "There is <ref>a star</ref><box>(300,500),(660,840)</box> and a circle."


def test_boxes_are_drawn_over_the_picture_and_point_at_their_words(
    front: Front, visit: Open
) -> None:
    front.enqueue(Reply([BOXED]))
    page = visit().page
    page.get_by_role("button", name="What is this?").click()
    page.locator(".tray-cost").wait_for()
    page.keyboard.press("Enter")
    wait_for_answer(page)
    assert page.locator(".answer > .prose").inner_text() == "There is a star and a circle."
    picture = page.locator(".box-picture").bounding_box()
    box = page.locator("rect.box").bounding_box()
    assert picture is not None
    assert box is not None
    assert abs((box["x"] - picture["x"]) / picture["width"] - 0.3) < 0.02
    assert abs(box["height"] / picture["height"] - 0.34) < 0.02
    page.locator(".answer > .prose .box-label").hover()
    assert "pointed" in (page.locator("rect.box").get_attribute("class") or "")
    page.locator("rect.box").hover(position={"x": 2, "y": 60})
    assert "pointed" in (page.locator(".answer > .prose .box-label").get_attribute("class") or "")


def test_json_boxes_are_drawn_as_well(front: Front, visit: Open) -> None:
    front.enqueue(Reply(['```json\n[{"bbox_2d": [100, 100, 400, 400], "label": "circle"}]\n```']))
    page = visit().page
    page.get_by_role("button", name="What is this?").click()
    page.locator(".tray-cost").wait_for()
    page.keyboard.press("Enter")
    wait_for_answer(page)
    assert page.locator("rect.box").count() == 1
    assert page.locator(".box-legend").inner_text() == "circle"
