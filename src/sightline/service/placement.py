"""Which images of a conversation the model gets to see.

Chat clients send the whole history each time, with every image ever sent, and most models take
few images: GLM-4V was trained with one per conversation. So only the latest message that has
images is judged by their number; images of earlier messages give way to it, with a notice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sightline.core.chat import ImagePart, Message, Notice, TextPart
from sightline.core.errors import RequestError, shorten

ExtraImages = Literal["latest", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A conversation with only the images that the model gets, and what was left out of it."""

    messages: tuple[Message, ...]
    notices: tuple[Notice, ...] = ()


def place_images(
    messages: Sequence[Message], *, max_images: int, extra_images: ExtraImages, model_id: str
) -> Placement:
    """Return the conversation with at most `max_images` images.

    Images are kept message by message, from the last one back, while they fit; what is earlier
    than that is dropped (`latest`) or refused (`error`).

    Raises `RequestError`: `image_input_not_supported` when the model takes no images,
    `too_many_images`, with the path of the first one too many, when the latest message that has
    images has more than `max_images`, or when any would have to be dropped under `error`.
    """
    images = [image for message in messages for image in message.images]
    if not images:
        return Placement(messages=tuple(messages))
    if max_images == 0:
        raise RequestError(
            f"Model '{shorten(model_id)}' takes no images.",
            code="image_input_not_supported",
            param=images[0].param,
        )
    if extra_images == "error" and len(images) > max_images:
        raise _too_many(images, max_images, model_id)

    latest = next(message.images for message in reversed(messages) if message.images)
    if len(latest) > max_images:
        raise _too_many(latest, max_images, model_id)

    first_kept = _first_kept(messages, max_images)
    placed: list[Message] = []
    notices: list[Notice] = []
    for index, message in enumerate(messages):
        if index < first_kept:
            notices.extend(_dropped(image) for image in message.images)
            placed.append(_without_images(message))
        else:
            placed.append(message)
    return Placement(messages=tuple(placed), notices=tuple(notices))


def _first_kept(messages: Sequence[Message], max_images: int) -> int:
    """Return the index from which on all messages keep their images."""
    num_kept = 0
    for index in range(len(messages) - 1, -1, -1):
        num_kept += len(messages[index].images)
        if num_kept > max_images:
            return index + 1
    return 0


def _without_images(message: Message) -> Message:
    return replace(message, parts=tuple(p for p in message.parts if isinstance(p, TextPart)))


def _too_many(images: Sequence[ImagePart], max_images: int, model_id: str) -> RequestError:
    return RequestError(
        f"{len(images)} images given, at most {max_images} for '{shorten(model_id)}'.",
        code="too_many_images",
        param=images[max_images].param,
    )


def _dropped(image: ImagePart) -> Notice:
    return Notice(field=image.param, reason="dropped-for-a-later-image", severity="warn")
