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
