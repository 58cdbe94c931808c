"""One loader with running decode workers for all tests of pictures, on a loop of its own."""

import asyncio
from collections.abc import Iterator

import picture_files
import pytest
from hypothesis import HealthCheck, settings

from sightline.core.chat import ImagePart
from sightline.core.errors import RequestError
from sightline.core.image_policy import SquareImagePolicy
from sightline.core.limits import Limits
from sightline.core.prompt import Image
from sightline.media.loader import MediaLoader, MediaOptions

SIDE = 64

# A machine that is busy with something else must not make a property look false.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


class Album:
    """Loads picture files the way a request does, and waits for the result.

    Every picture comes back as 64x64 pixels, so flat quarters keep their colours at `pixel`.
    """

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.loader = MediaLoader(Limits(decode_timeout_s=30), MediaOptions(cache_bytes=0))

    def load_source(self, source: str) -> Image:
        part = ImagePart(source=source, param="messages[0].content[1].image_url")
        policy = SquareImagePolicy(size=SIDE, num_tokens=18)
        [image] = self.runner.run(self.loader.load([part], policy))
        return image

    def load(self, data: bytes) -> Image:
        return self.load_source(picture_files.data_url(data))

    def refusal(self, data: bytes) -> RequestError:
        with pytest.raises(RequestError) as caught:
            self.load(data)
        return caught.value

    def close(self) -> None:
        self.runner.run(self.loader.close())
        self.runner.close()


@pytest.fixture(scope="session")
def album() -> Iterator[Album]:
    album = Album()
    yield album
    album.close()


def pixel(image: Image, x: int, y: int) -> tuple[int, int, int]:
    start = (y * image.width + x) * 3
    red, green, blue = image.pixels[start : start + 3]
    return red, green, blue


@pytest.fixture
def quarter_colours():
    """Return the colours of the four quarters of a loaded picture, at their centres."""

    def read(image: Image) -> list[tuple[int, int, int]]:
        near, far = image.width // 4, 3 * image.width // 4
        return [pixel(image, x, y) for x, y in ((near, near), (far, near), (near, far), (far, far))]

    return read
