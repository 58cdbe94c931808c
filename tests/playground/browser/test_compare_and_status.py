"""The other two pages: two models side by side, and the server at work."""

from collections.abc import Iterator

import pytest
from browsing import Open, ask, wait_for_answer
from front import Front, chat, serving

from sightline.backends.fake import Reply, fake_info
from sightline.playground.site import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def other(front: Front) -> Iterator[Front]:
    """Another server, which lets pages of the first one ask it."""
    options = {"allowed_origins": (front.url,)}
    info = fake_info(model_id="another-model")
    with serving(Front(server_options=options, engine_options={"info": info})) as other:
        yield other


def test_two_servers_answer_the_same_question_side_by_side(
    front: Front, other: Front, visit: Open
) -> None:
    gates = [server.new_gate() for server in (front, other)]
    front.enqueue(Reply(["Left", gates[0], " is done."]))
    other.enqueue(Reply(["Right", gates[1], " is done."]))
    page = visit("/compare", allow=(f"127.0.0.1:{other.port}",)).page
    right = page.get_by_role("region", name="Right model")
    right.get_by_label("Server").select_option("other")
    right.get_by_label("Address").fill(f"{other.url}/v1")
    right.locator("option", has_text="another-model").wait_for(state="attached")
    ask(page, "Who are you?")
    for text in ("Left", "Right"):  # both stream at the same time
        page.locator(".answer > .prose", has_text=text).wait_for()
    for server, gate in zip((front, other), gates, strict=True):
        server.on_loop(gate.set)
    wait_for_answer(page, 2)
    assert page.locator(".answer > .prose").all_inner_texts() == ["Left is done.", "Right is done."]
    assert page.locator(".facts-line").count() == 2
    assert page.locator(".bubble").all_inner_texts() == ["Who are you?"]


def test_both_sides_keep_their_own_history(front: Front, visit: Open) -> None:
    for reply in ("One", "Two", "Three", "Four"):
        front.enqueue(Reply([reply]))
    page = visit("/compare").page
    page.locator("select option", has_text="sightline-fake").first.wait_for(state="attached")
    for number in (1, 2):
        ask(page, f"Question {number}")
        wait_for_answer(page, number * 2)
    prompts = sorted(len(request.prompt.token_ids) for request in front.engine.requests)
    assert len(prompts) == 4
    assert prompts[2] > prompts[1]


def test_a_server_that_does_not_allow_this_page_says_what_to_do(front: Front, visit: Open) -> None:
    with serving(Front()) as closed:
        made = visit("/compare", allow=(f"127.0.0.1:{closed.port}",))
        made.expect("CORS", "Failed to load resource")
        page = made.page
        left = page.get_by_role("region", name="Left model")
        left.get_by_label("Server").select_option("other")
        left.get_by_label("Address").fill(f"{closed.url}/v1")
        left.get_by_text(f"--allow-origin {front.url}").wait_for()


def test_what_was_written_on_one_page_is_there_on_the_other(front: Front, visit: Open) -> None:
    page = visit().page
    page.get_by_role("button", name="What is this?").click()
    page.locator(".meter", has_text="tokens").wait_for()
    page.wait_for_timeout(700)
    page.get_by_role("link", name="Compare two models").click()
    page.locator(".tray-item").wait_for()
    assert page.locator("#message").input_value() == "What is this?"


def test_the_server_page_shows_what_happens(front: Front, visit: Open) -> None:
    gate = front.new_gate()
    front.enqueue(Reply(["a", gate]))
    page = visit("/status").page
    page.get_by_text("No requests yet.").wait_for()
    front.post(chat("hello", "data:broken"))
    page.locator(".errors", has_text="image_parse_error").wait_for()
    other = visit().page
    ask(other, "Take your time")
    other.locator(".answer > .prose", has_text="a").wait_for()
    page.bring_to_front()
    page.locator(".tile", has_text="Running").get_by_text("1", exact=True).wait_for()
    front.on_loop(gate.set)
    page.locator(".request", has_text="200").wait_for()
    page.locator(".request", has_text="200").locator("summary").click()
    assert page.locator(".request .stage").count() > 0
    assert "Take your time" not in page.content()
    assert page.get_by_text("Content is not kept.").is_visible()


def test_content_is_shown_only_by_a_server_that_keeps_it(visit: Open) -> None:
    options = {"inspect_content": True}
    with serving(Front(site=Site(), server_options=options)) as front:
        front.post(chat("a very private question"))
        page = visit("/status", url=front.url).page
        page.locator(".request summary").click()
        page.locator(".request-content", has_text="a very private question").first.wait_for()
