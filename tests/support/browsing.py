"""What a person does in the playground, for tests in a real browser."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


@dataclass
class Visit:
    """One window of the browser and everything that went wrong in it."""

    page: "Page"
    url: str
    problems: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def expect(self, *texts: str) -> None:
        """Say which problems are part of the test: those that contain one of `texts`."""
        self.expected += texts

    def unexpected(self) -> list[str]:
        return [
            problem
            for problem in self.problems
            if not any(text in problem for text in self.expected)
        ]


Open = Callable[..., Visit]


def ask(page: "Page", text: str) -> None:
    page.locator("#message").fill(text)
    page.keyboard.press("Enter")


def answers(page: "Page") -> list[str]:
    return page.locator(".answer > .prose").all_inner_texts()


def wait_for_answer(page: "Page", number: int = 1) -> None:
    """Wait until the `number`th answer on the page is over."""
    page.locator(".answer[aria-busy=false]").nth(number - 1).wait_for()
