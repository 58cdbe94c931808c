"""What commands write to the terminal, and how they fail."""

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from sightline.cli import catalogue
from sightline.client.errors import ClientError
from sightline.core.errors import StartupError

P = ParamSpec("P")
R = TypeVar("R")

EXIT_FAILED = 1
EXIT_CANNOT_START = 2
EXIT_DISK_FULL = 3
EXIT_INTERRUPTED = 130
_DISK_FULL = frozenset({"pull_disk", "pull_no_room", "quantize_full", "quantize_no_room"})

BAR_WIDTH = 30
REDRAW_EVERY_S = 0.1


def printable(text: str) -> str:
    """Return `text` without control characters but newline and tab.

    A model repeats what it reads in a picture: it must not be able to steer the terminal.
    """
    return "".join(c for c in text if c in "\n\t" or c.isprintable() or c in _JOINERS)


# Parts of emoji and of scripts that join letters; Python does not count them as printable.
_JOINERS = "\u200c\u200d\u3000\u00a0"


def note(text: str) -> None:
    """Write a line for the person, beside the answer that may go to a file."""
    print(text, file=sys.stderr, flush=True)


def fail(text: str, *, status: int = EXIT_CANNOT_START) -> NoReturn:
    note(f"sightline: {text}")
    raise SystemExit(status)


def ends_cleanly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the failures a person can act on into one line and an exit status."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except StartupError as error:
            line = catalogue.error(error)
            fail(line, status=EXIT_DISK_FULL if error.code in _DISK_FULL else EXIT_CANNOT_START)
        except ClientError as error:
            line = printable(str(error)).replace("\n", " ")
            if error.status == 401:
                line += " " + catalogue.text("server.hint_key")
            fail(line, status=EXIT_FAILED)
        except KeyboardInterrupt:
            note("")
            raise SystemExit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of our output left; there is nobody to tell.
            sys.stderr.close()
            raise SystemExit(EXIT_FAILED) from None

    return run


def print_json(value: object) -> None:
    """Print JSON that a program can read, whatever the terminal can show."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeError:
        text = json.dumps(value, indent=2)
    print(text)


class ProgressBar:
    """Shows how much of a whole is done, on a terminal only.

    `update` may be called as often as one likes, from one thread at a time.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._is_shown = sys.stderr.isatty()
        self._drawn_at = float("-inf")

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self._is_shown or total <= 0 or now - self._drawn_at < REDRAW_EVERY_S:
            return
        self._drawn_at = now
        share = min(done / total, 1.0)
        full = round(share * BAR_WIDTH)
        bar = "█" * full + "░" * (BAR_WIDTH - full)
        size = f"{done / 1e6:,.0f}/{total / 1e6:,.0f} MB"
        sys.stderr.write(f"\r\x1b[K{self._title} {bar} {share:4.0%} {size}")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown and self._drawn_at > float("-inf"):
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
