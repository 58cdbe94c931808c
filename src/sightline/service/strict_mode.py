"""What strict mode refuses: whatever would make the answer another than the one asked for."""

from collections.abc import Iterable

from sightline.core.chat import Notice
from sightline.core.errors import RequestError, shorten


def refuse_warnings(notices: Iterable[Notice]) -> None:
    """Raise `RequestError` (`unsupported_parameter`) for the first notice that warns."""
    for notice in notices:
        if notice.severity == "warn":
            raise RequestError(
                f"'{shorten(notice.field)}' is not honoured ({notice.reason}); strict mode is on.",
                code="unsupported_parameter",
                param=notice.field,
            )
