"""The API page: the server's own description, to be read and tried out."""

import pytest
from browsing import Open
from front import Front

pytestmark = pytest.mark.e2e


def test_names_in_sentences_are_set_as_code(visit: Open) -> None:
    page = visit("/docs").page
    page.locator(".docs-intro code", has_text="x-sightline-warnings").wait_for()
    for summary in page.locator(".endpoint > summary").all():
        summary.click()
    page.locator(".errors-list code", has_text="retry-after").first.wait_for()
    assert "`" not in page.locator("main").inner_text()


def test_an_endpoint_is_tried_out_where_it_is_described(front: Front, visit: Open) -> None:
    page = visit("/docs").page
    chat = page.locator(".endpoint", has_text="/v1/chat/completions").first
    chat.locator("summary").first.click()
    chat.get_by_role("button", name="Send").click()
    chat.locator(".try pre", has_text="200").wait_for()
    assert '"object": "chat.completion"' in chat.locator(".try pre").inner_text()


def test_the_description_is_there_in_chinese(visit: Open) -> None:
    page = visit("/docs", locale="zh-CN").page
    page.get_by_role("heading", name="对话").wait_for()
    summary = page.locator(".endpoint", has_text="/v1/completions").locator("summary")
    assert "原样续写文本" in summary.inner_text()
    summary.click()
    page.get_by_text("仅在 stream: true 时有效。").first.wait_for()
    page.get_by_role("button", name="English").click()
    page.get_by_role("heading", name="Chat").wait_for()
