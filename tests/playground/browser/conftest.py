"""A real browser on the real pages. Every visit fails if the page asked another host for anything,
broke its own Content-Security-Policy, or had an error."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from browsing import Open, Visit
from front import Front, serving
from served import Served
from served import serving as serving_process

from sightline.playground.site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WATCH_POLICY = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    named = os.environ.get("SIGHTLINE_TEST_CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,  # None: the one that `playwright install chromium` brought
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: "Browser", front: Front) -> Iterator[Open]:
    """Return a function that opens a page of `front` (or of `url`) in a window of its own."""
    opened: list[Visit] = []
    with ExitStack() as windows:

        def open_page(
            path: str = "/",
            *,
            url: str | None = None,
            allow: tuple[str, ...] = (),
            locale: str = "en-US",
            width: int = 1280,
            height: int = 800,
            **options: Any,
        ) -> Visit:
            context = browser.new_context(
                locale=locale, viewport={"width": width, "height": height}, **options
            )
            windows.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(60_000)  # nothing takes that long on an idle machine
            made = Visit(page, url or front.url)
            own = urlsplit(made.url).netloc

            def judge(route: "Route") -> None:
                address = urlsplit(route.request.url)
                if address.scheme in ("data", "blob") or address.netloc in (own, *allow):
                    route.continue_()
                    return
                made.problems.append(f"another host: {route.request.url}")
                route.abort()

            context.route("**/*", judge)
            page.add_init_script(WATCH_POLICY)
            page.on("pageerror", lambda error: made.problems.append(f"error: {error}"))
            page.on(
                "console",
                lambda message: (
                    made.problems.append(f"console: {message.text}")
                    if message.type == "error"
                    else None
                ),
            )
            opened.append(made)
            page.goto(made.url + path)
            return made

        yield open_page
        for made in opened:
            assert made.unexpected() == []


@pytest.fixture
def front() -> Iterator[Front]:
    """The real server with the fake engine, which says what the test scripts."""
    with serving(Front(site=Site())) as front:
        yield front


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`sightline serve` with the bundled model."""
    with serving_process(tmp_path_factory.mktemp("home")) as served:
        yield served


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from pictures import red_circle

    path = tmp_path / "circle.png"
    path.write_bytes(red_circle())
    return path
