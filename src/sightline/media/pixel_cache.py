"""Decoded pictures kept for the next question about them."""

from collections import OrderedDict

from sightline.core.prompt import Image

_ENTRY_OVERHEAD_BYTES = 512


class PixelCache:
    """The most recently used images within a budget of bytes.

    The key must cover everything that decides the pixels: the encoded bytes, the size asked for,
    and the salt of the tenant, so that nobody can tell by the clock what others have sent.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._images: OrderedDict[bytes, Image] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._images)

    def get(self, key: bytes) -> Image | None:
        image = self._images.get(key)
        if image is not None:
            self._images.move_to_end(key)
        return image

    def put(self, key: bytes, image: Image) -> None:
        """Keep `image`; the least recently used ones make room. One over the budget is not kept."""
        if key in self._images or _cost(image) > self._max_bytes:
            return
        self._images[key] = image
        self.num_bytes += _cost(image)
        while self.num_bytes > self._max_bytes:
            _, dropped = self._images.popitem(last=False)
            self.num_bytes -= _cost(dropped)


def _cost(image: Image) -> int:
    return len(image.pixels) + _ENTRY_OVERHEAD_BYTES
