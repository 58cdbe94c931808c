"""The real thing: the bundled model answers in the browser. These tests make the pictures of the
READMEs, when SIGHTLINE_SCREENSHOTS names the folder for them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browsing import Open, answers, ask, wait_for_answer
from served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def photograph(page: "Page", name: str) -> None:
    folder = os.environ.get("SIGHTLINE_SCREENSHOTS")
    if folder:
        page.mouse.move(0, 0)
        page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled", caret="hide")


def ask_about_example(page: "Page", question: str) -> None:
    page.get_by_role("button", name=question).click()
    page.locator(".tray-cost").wait_for()
    page.keyboard.press("Enter")
    wait_for_answer(page)


def test_the_bundled_model_says_what_is_in_the_picture(visit: Open, demo: Served) -> None:
    page = visit(url=demo.url, locale="zh-CN", height=720, device_scale_factor=1.5).page
    ask_about_example(page, "这是什么?")
    (answer,) = answers(page)
    assert all(word in answer for word in ("红色", "圆形", "蓝色", "正方形", "黄色", "星形")), (
        answer
    )
    assert page.locator(".time-bar .stage-encode").count() == 1
    photograph(page, "playground")
    page.locator(".facts summary").click()
    ask(page, "有几个图形?")
    wait_for_answer(page, 2)
    assert "3" in answers(page)[1]


def test_what_the_model_saw_is_its_own_picture(visit: Open, demo: Served) -> None:
    page = visit(url=demo.url, height=720).page
    ask_about_example(page, "What is this?")
    page.locator(".answer").get_by_role("button", name="What the model saw").click()
    page.get_by_label("Show the token grid").check()
    assert "160 × 160" in page.locator(".seen-caption").inner_text()
    photograph(page, "what-the-model-saw")


def test_the_dark_page_with_its_code(visit: Open, demo: Served) -> None:
    page = visit(url=demo.url, color_scheme="dark", height=720).page
    ask_about_example(page, "What number is this?")
    assert "42" in answers(page)[0]
    page.get_by_role("button", name="Code", exact=True).click()
    page.get_by_role("tab", name="Python").click()
    page.locator(".code-panel .hljs-keyword").first.wait_for()
    photograph(page, "code-dark")


def test_a_phone(visit: Open, demo: Served) -> None:
    page = visit(
        url=demo.url, locale="zh-CN", width=390, height=760, is_mobile=True, has_touch=True,
        device_scale_factor=2,
    ).page  # fmt: skip
    ask_about_example(page, "圆形是什么颜色?")
    assert "红" in answers(page)[0]
    photograph(page, "phone")


def test_two_sides_answer_about_the_same_picture(visit: Open, demo: Served) -> None:
    page = visit("/compare", url=demo.url, height=720).page
    page.locator("#right-model option").first.wait_for(state="attached")
    shapes = Path(__file__).parents[3] / "examples" / "shapes.png"
    page.locator(".composer input[type=file]").set_input_files(shapes)
    page.locator(".tray-cost").wait_for()
    ask(page, "What is this?")
    wait_for_answer(page, 2)
    left, right = answers(page)
    assert left == right
    photograph(page, "compare")


def test_the_server_page_of_a_server_that_has_worked(visit: Open, demo: Served) -> None:
    for text in ("What can you do?", "Hello", "你好"):
        demo.ask(text)
    page = visit("/status", url=demo.url, height=860).page
    page.locator(".request").nth(2).wait_for()
    page.locator(".request summary").first.click()
    assert page.locator(".tile").count() == 4
    photograph(page, "server")
