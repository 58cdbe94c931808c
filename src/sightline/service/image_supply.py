"""The pictures of a request: fetched where sizes matter, loaded as the model wants, reported."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

from sightline.core.chat import ImagePart, ImageReport, Notice
from sightline.core.errors import RequestError
from sightline.core.image_policy import ImagePolicy, policy_of
from sightline.core.prompt import Image, Prompt
from sightline.service.budget import TokenCounts, require_room
from sightline.service.formats.contract import Layout, TokensPerImage
from sightline.service.media_times import MediaTimes
from sightline.service.placement import Placement
from sightline.service.served_model import ServedModel


class FetchedImages(Protocol):
    """Pictures that were fetched and not decoded; `sizes` are (width, height) of every part."""

    @property
    def sizes(self) -> Sequence[tuple[int, int]]: ...


class ImageLoader(Protocol):
    """Fetches and decodes: one picture per part, in order, as `policy` wants them.

    Nothing that was decoded under another `cache_salt` is used. Raises `RequestError` with the
    `param` of the part to blame.
    """

    async def load(
        self,
        parts: Sequence[ImagePart],
        policy: ImagePolicy,
        *,
        cache_salt: bytes,
        fetched: Any = None,
    ) -> Sequence[Image]: ...

    def fetch(self, parts: Sequence[ImagePart]) -> AbstractAsyncContextManager[FetchedImages]:
        """Fetch what is loaded later with it as `fetched`; only for models that need sizes."""
        ...


class ImageSupply:
    """Gets the pictures of a request from `loader`, and no more of them than its prompt has."""

    def __init__(self, loader: ImageLoader) -> None:
        self._loader = loader

    async def fetch(
        self, placement: Placement, model: ServedModel, media: AsyncExitStack
    ) -> FetchedImages | None:
        """Fetch the images, if their sizes decide what they cost; `media` lets go of them.

        Raises `RequestError` (`context_length_exceeded`) where even the smallest do not fit.
        """
        policy, parts = model.info.image_policy, images_of(placement)
        if policy is None or policy.tokens_per_image is not None or not parts:
            return None
        least = TokenCounts(text=0, image=len(parts) * policy.fewest_tokens)
        require_room(least, window=model.info.max_model_len, at_least=True)
        return await media.enter_async_context(self._loader.fetch(parts))

    async def load(
        self,
        layout: Layout,
        model: ServedModel,
        cache_salt: bytes,
        fetched: FetchedImages | None,
    ) -> Sequence[Image]:
        """Return the images of `layout`, in order. Raises `RequestError` for the one to blame."""
        policy = model.info.image_policy
        if policy is None or not layout.images:
            return ()
        parts = [slots.part for slots in layout.images]
        if policy.tokens_per_image is not None:
            return await self._loader.load(parts, policy, cache_salt=cache_salt)
        images = await self._loader.load(parts, policy, cache_salt=cache_salt, fetched=fetched)
        for slots, image in zip(layout.images, images, strict=True):
            if policy.count_tokens(image.width, image.height) != slots.length:
                # The header said another size than the picture has.
                raise RequestError(
                    "The image is damaged or cut short.",
                    code="image_parse_error",
                    param=slots.part.param,
                )
        return images


def images_of(placement: Placement) -> list[ImagePart]:
    return [part for message in placement.messages for part in message.images]


def tokens_per_image(
    policy: ImagePolicy | None, parts: Sequence[ImagePart], fetched: FetchedImages | None
) -> TokensPerImage:
    """Return what an image costs: one number for all, or one for each of `parts`."""
    if policy is None or fetched is None:
        return (policy and policy.tokens_per_image) or 0
    wanted = [policy_of(part, policy) for part in parts]
    return [
        own.count_tokens(*own.target_size(*size)) or own.most_tokens
        for own, size in zip(wanted, fetched.sizes, strict=True)
    ]


def image_notices(layout: Layout, images: Sequence[Image]) -> tuple[Notice, ...]:
    """Return what is told of images: that one moves, of which only the first frame is shown to the
    model, or is of another type than its server said.
    """
    notices = []
    for slots, image in zip(layout.images, images, strict=True):
        param = slots.part.param
        if image.has_more_frames:
            notices.append(Notice(field=param, reason="first-frame-only"))
        if image.is_declared_otherwise:
            notices.append(Notice(field=param, reason="declared-type-differs", severity="info"))
    return tuple(notices)


def reports_of(
    prompt: Prompt, layout: Layout, model: ServedModel, times: MediaTimes
) -> tuple[ImageReport, ...]:
    """Return what is told of each image of a prompt that has been filled."""
    return tuple(
        ImageReport(
            param=slots.part.param,
            original_width=span.image.original_width,
            original_height=span.image.original_height,
            width=span.image.width,
            height=span.image.height,
            num_tokens=span.length,
            cached=span.image.digest in times.cached,
            box_units=model.info.box_units,
        )
        for slots, span in zip(layout.images, prompt.images, strict=True)
    )
