"""The byte-budget cache of decoded pictures."""

from hypothesis import given
from hypothesis import strategies as st

from sightline.core.prompt import Image
from sightline.media.pixel_cache import PixelCache

OVERHEAD = 512  # what an entry costs beside its pixels


def picture(num_bytes: int) -> Image:
    return Image(
        pixels=bytes(num_bytes),
        width=1,
        height=1,
        digest=b"",
        original_width=1,
        original_height=1,
    )


def test_the_least_recently_used_picture_makes_room():
    cache = PixelCache(3 * (100 + OVERHEAD))
    for key in (b"a", b"b", b"c"):
        cache.put(key, picture(100))
    cache.get(b"a")
    cache.put(b"d", picture(100))
    assert cache.get(b"b") is None
    assert all(cache.get(key) is not None for key in (b"a", b"c", b"d"))


def test_a_picture_over_the_budget_is_not_kept_and_drives_nothing_out():
    cache = PixelCache(1000)
    cache.put(b"a", picture(100))
    cache.put(b"b", picture(1000))
    assert cache.get(b"a") is not None
    assert cache.get(b"b") is None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1500))), st.integers(0, 4000))
def test_the_books_are_right_whatever_happens(puts, budget):
    cache = PixelCache(budget)
    for number, num_bytes in puts:
        cache.put(bytes([number]), picture(num_bytes))
        kept = [cache.get(bytes([i])) for i in range(10)]
        total = sum(len(image.pixels) + OVERHEAD for image in kept if image is not None)
        assert cache.num_bytes == total <= budget
