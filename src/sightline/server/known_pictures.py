"""Bodies without the pictures that this server has read before.

The digits of a data URL whose picture is known are taken out of the JSON before it is parsed, and
a short mark is left in their place.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sightline.core.chat import ImagePart, InlineText, Message
from sightline.media.known_base64 import KnownBase64
from sightline.server.received import BYTE_ORDER_MARK, Received

# So much is left of the digits, for whoever shows how an address begins.
_SHOWN_DIGITS = 64


class Misplaced(Exception):
    """A mark stands where no picture is expected."""


@dataclass(frozen=True, slots=True)
class TakenOut:
    """What was taken out of a body, by the mark that is left."""

    texts: dict[str, InlineText]

    def put_back(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return `messages` with every text at the picture whose address it is.

        Raises `Misplaced`.
        """
        missing = dict(self.texts)

        def found(part: ImagePart) -> ImagePart:
            mark = part.source[part.source.rfind(".") :]
            text = missing.pop(mark, None)
            if text is None:
                return part
            return replace(part, source=part.source.removesuffix(mark), inline=text)

        whole = tuple(
            replace(
                message,
                parts=tuple(
                    found(part) if isinstance(part, ImagePart) else part for part in message.parts
                ),
            )
            if message.images
            else message
            for message in messages
        )
        if missing:
            raise Misplaced
        return whole


NOTHING = TakenOut({})


def take_out(body: Received, known: KnownBase64, salt: bytes) -> tuple[bytes, TakenOut]:
    """Return `body` without the digits that are known; nothing is taken out if none are.

    They are plain characters of one JSON string, or the body is no JSON: nothing else changes.
    What has come twice is likely to come again, and is kept.
    """
    texts: dict[str, InlineText] = {}
    pieces: list[bytes | memoryview] = []
    copied = 0
    for run in body.runs:
        if known.file_of(run.digest) is not None:
            mark = f".{uuid.uuid4().hex}"
            digits = tuple(body.between(run.start, run.end))
            texts[mark] = InlineText(pieces=digits, digest=run.digest)
            if not run.begins_as_kept:
                known.keep(b"".join(digits), run.digest, salt)
            pieces += [*body.between(copied, run.start + _SHOWN_DIGITS), mark.encode("ascii")]
            copied = run.end
    if not texts:
        return b"", NOTHING
    short = b"".join([*pieces, *body.between(copied, body.size)])
    return short.removeprefix(BYTE_ORDER_MARK), TakenOut(texts)
