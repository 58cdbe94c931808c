from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.engine.embedding_cache import EmbeddingCache


def test_the_least_recently_used_goes_first() -> None:
    cache = EmbeddingCache[str](2)
    cache.put(b"a", "A", 1)
    cache.put(b"b", "B", 1)
    assert cache.get(b"a") == "A"
    cache.put(b"c", "C", 1)
    assert (cache.get(b"a"), cache.get(b"b"), cache.get(b"c")) == ("A", None, "C")


def test_what_exceeds_the_whole_budget_evicts_nothing() -> None:
    cache = EmbeddingCache[str](2)
    cache.put(b"a", "A", 1)
    cache.put(b"huge", "H", 3)
    assert cache.get(b"a") == "A"
    assert cache.get(b"huge") is None


@settings(deadline=None)
@given(puts=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=50))
def test_the_budget_is_kept_and_the_bytes_are_counted(puts: list[tuple[int, int]]) -> None:
    cache = EmbeddingCache[int](10)
    sizes: dict[int, int] = {}
    for key, size in puts:
        cache.put(bytes([key]), size, size)
        sizes[key] = size
        assert cache.size_bytes <= 10
    kept = [cache.get(bytes([key])) for key in sizes]
    assert sum(size for size in kept if size is not None) == cache.size_bytes
