from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.engine.embedding_cache import EmbeddingCache


def use(cache: EmbeddingCache, key: bytes, size: int = 1) -> bool:
    """Lease and give back, as a prompt does that is computed in one step."""
    if not cache.lease(key, size):
        return False
    cache.release(key)
    return True


def test_the_least_recently_used_goes_first() -> None:
    cache = EmbeddingCache(2)
    for key in (b"a", b"b", b"a", b"c"):
        assert use(cache, key)
    assert (b"a" in cache, b"b" in cache, b"c" in cache) == (True, False, True)
    assert cache.take_evicted() == (b"b",)
    assert cache.take_evicted() == ()


def test_what_is_leased_stays_and_others_wait() -> None:
    cache = EmbeddingCache(2)
    assert cache.lease(b"a", 2)
    assert not cache.lease(b"b", 1)
    cache.release(b"a")
    assert cache.lease(b"b", 1)
    assert b"a" not in cache


def test_a_picture_that_two_prompts_need_is_leased_twice_and_counted_once() -> None:
    cache = EmbeddingCache(2)
    assert cache.lease(b"a", 2)
    assert cache.lease(b"a", 2)
    cache.release(b"a")
    assert not cache.lease(b"b", 1)
    assert (cache.num_hits, cache.num_queries, cache.size_bytes) == (1, 2, 2)


def test_what_exceeds_the_whole_budget_evicts_nothing() -> None:
    cache = EmbeddingCache(2)
    use(cache, b"a")
    assert not cache.lease(b"huge", 3)
    assert b"a" in cache


def test_an_evicted_picture_that_came_back_is_not_dropped_from_the_device() -> None:
    cache = EmbeddingCache(1)
    use(cache, b"a")
    use(cache, b"b")
    use(cache, b"a")
    assert cache.take_evicted() == (b"b",)


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_the_budget_is_kept_and_the_leases_are_counted(steps: list[tuple[bool, int]]) -> None:
    cache, held = EmbeddingCache(10), list[bytes]()
    for takes, number in steps:
        key = bytes([number])
        if takes and cache.lease(key, 2 * number):
            held.append(key)
        elif not takes and key in held:
            held.remove(key)
            cache.release(key)
        cache.check_integrity(held)
    assert cache.num_leases == len(held)
