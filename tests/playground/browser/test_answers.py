"""Every kind of answer on the page. The server's part of reasoning, tools and JSON depends on the
model, so their streams are scripted here, as the wire has them."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Open, ask, wait_for_answer
from front import Front

from sightline.backends.fake import Reply

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MARKDOWN = r"""# A heading

Some **bold** words, a [link](https://example.org/) and `code`.

```python
def square(x: int) -> int:
    return x * x  # easy
```

The area is $\pi r^2$, and

$$\int_0^1 \frac{x}{\sqrt{2}}\,dx$$

| shape | count |
|---|---|
| circle | 2 |
"""

HOSTILE = (
    "<img src=x onerror=alert(1)><script>alert(2)</script>\n\n"
    "![tracker](https://evil.example/pixel.png) [click](javascript:alert(3))\n\n"
    '<div style="position:fixed">over</div>\n\n$\\href{javascript:alert(4)}{x}$\n'
)


def script(page: "Page", *deltas: dict[str, Any], finish_reason: str = "stop") -> list[Any]:
    """Answer chat requests with these deltas. Returns the list that their bodies will be in."""
    bodies: list[Any] = []
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices: list[list[Any]] = [
        [{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas
    ]
    choices += [[{"index": 0, "delta": {}, "finish_reason": finish_reason}], []]
    chunks = [json.dumps({**base, "choices": choice}) for choice in choices]
    stream = "".join(f"data: {data}\n\n" for data in [*chunks, "[DONE]"])

    def answer(route: Any) -> None:
        bodies.append(route.request.post_data_json)
        route.fulfill(status=200, content_type="text/event-stream", body=stream)

    page.route("**/v1/chat/completions", answer)
    return bodies


def test_markdown_code_and_formulas_are_set(front: Front, visit: Open) -> None:
    front.enqueue(Reply([character.encode() for character in MARKDOWN]))
    page = visit().page
    ask(page, "Show everything")
    wait_for_answer(page)
    prose = page.locator(".answer > .prose")
    assert prose.locator("h1").inner_text() == "A heading"
    prose.locator(".hljs-keyword").first.wait_for()
    prose.locator("div.math .katex-display").wait_for()
    assert prose.locator("span.math .katex").count() == 1
    assert prose.locator("table td").all_inner_texts() == ["circle", "2"]
    assert prose.locator("a").get_attribute("rel") == "noopener noreferrer"


def test_the_text_that_streamed_looks_as_if_it_had_come_at_once(front: Front, visit: Open) -> None:
    front.enqueue(
        Reply([character.encode() for character in MARKDOWN], delay_s=0.002),
        Reply([MARKDOWN]),
    )
    page = visit().page
    shown = []
    for number in (1, 2):
        ask(page, "Show everything")
        wait_for_answer(page, number)
        prose = page.locator(".answer > .prose").nth(number - 1)
        prose.locator("div.math .katex-display").wait_for()
        prose.locator(".hljs-keyword").first.wait_for()
        shown.append(prose.inner_html())
    assert shown[0] == shown[1]


def test_a_hostile_answer_can_do_nothing(front: Front, visit: Open) -> None:
    front.enqueue(Reply([HOSTILE]))
    page = visit().page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    ask(page, "Attack")
    wait_for_answer(page)
    page.locator(".math .katex").wait_for()
    assert page.locator(".answer > .prose :is(img, script, iframe, [style*=fixed])").count() == 0
    assert page.locator(".answer > .prose a[href^=javascript]").count() == 0
    assert dialogs == []


def test_reasoning_is_folded_away_and_can_be_read(front: Front, visit: Open) -> None:
    page = visit().page
    script(
        page,
        {"reasoning_content": "Two **cats**.", "reasoning": "Two **cats**."},
        {"content": "Two."},
    )
    ask(page, "How many?")
    wait_for_answer(page)
    reasoning = page.locator(".reasoning")
    assert "Thought for" in reasoning.locator("summary").inner_text()
    assert reasoning.get_by_text("cats").is_hidden()
    reasoning.locator("summary").click()
    assert reasoning.locator("strong").inner_text() == "cats"
    assert page.locator(".answer > .prose").inner_text() == "Two."


def test_a_call_of_a_tool_is_a_card_that_takes_its_result(front: Front, visit: Open) -> None:
    page = visit().page
    call = {"index": 0, "id": "c1", "type": "function"}
    script(
        page,
        {"tool_calls": [{**call, "function": {"name": "count", "arguments": '{"what":"cats"}'}}]},
        finish_reason="tool_calls",
    )
    ask(page, "How many?")
    card = page.locator(".tool-card")
    card.wait_for()
    assert "count" in card.locator("header").inner_text()
    assert '"what": "cats"' in card.locator("pre").inner_text()
    bodies = script(page, {"content": "There are 2."})
    card.get_by_label("Result of count").fill("2")
    card.get_by_role("button", name="Give the result").click()
    page.get_by_text("There are 2.").wait_for()
    assert bodies[0]["messages"][-1] == {"role": "tool", "tool_call_id": "c1", "content": "2"}
    assert bodies[0]["messages"][-2]["tool_calls"][0]["id"] == "c1"


@pytest.mark.parametrize(
    ("answer", "mark"),
    [
        ('{"shape": "circle", "count": 2}', "Valid, matches the schema"),
        ('{"shape": "circle"}', "“count” is missing"),
        ("A circle.", "this is not JSON"),
    ],
)
def test_json_answers_are_marked(front: Front, visit: Open, answer: str, mark: str) -> None:
    page = visit().page
    page.get_by_role("button", name="Settings").click()
    page.get_by_text("JSON schema", exact=True).click()
    schema = {
        "type": "object",
        "properties": {"shape": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["shape", "count"],
    }
    page.get_by_label("Schema", exact=True).fill("{")
    assert page.get_by_label("Schema", exact=True).get_attribute("aria-invalid") == "true"
    page.get_by_label("Schema", exact=True).fill(json.dumps(schema))
    assert page.get_by_label("Schema", exact=True).get_attribute("aria-invalid") == "false"
    bodies = script(page, {"content": answer})
    ask(page, "Describe")
    wait_for_answer(page)
    assert mark in page.locator(".json-mark").inner_text()
    assert bodies[0]["response_format"]["json_schema"]["schema"] == schema


def test_an_answer_that_was_cut_says_so(front: Front, visit: Open) -> None:
    page = visit().page
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Longest answer").fill("3")
    ask(page, "abcdefgh")
    wait_for_answer(page)
    assert page.get_by_text("Cut off at the token limit.").is_visible()
