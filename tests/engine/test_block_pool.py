from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.engine.block_keys import BlockContent
from sightline.engine.block_pool import MAX_SIBLINGS, BlockPool


def content(*token_ids: int) -> BlockContent:
    return BlockContent(array("q", token_ids))


NOTHING = content()


def filled(pool: BlockPool, *keys: bytes) -> list[int]:
    """Blocks with known content, given back."""
    blocks = pool.allocate(len(keys))
    for block, key in zip(blocks, keys, strict=True):
        pool.publish(block, key, b"", NOTHING)
    pool.release(blocks)
    return blocks


def test_a_block_is_found_again_by_its_key() -> None:
    pool = BlockPool(4)
    blocks = filled(pool, b"a", b"b")
    assert pool.match([b"a", b"b", b"c"]) == blocks
    assert pool.match([b"x", b"b"]) == []
    assert (pool.num_used, pool.num_cached, pool.num_available) == (0, 2, 4)


def test_free_blocks_go_before_cached_ones_and_the_oldest_of_those_first() -> None:
    pool = BlockPool(3)
    filled(pool, b"a")
    filled(pool, b"b")
    pool.allocate(1)
    assert (pool.match([b"a"]) != [], pool.match([b"b"]) != []) == (True, True)
    pool.allocate(1)
    assert (pool.match([b"a"]), pool.match([b"b"]) != []) == ([], True)


def test_the_end_of_a_prompt_is_evicted_before_its_beginning() -> None:
    pool = BlockPool(3)
    filled(pool, b"a", b"b", b"c")
    pool.allocate(2)
    assert len(pool.match([b"a", b"b", b"c"])) == 1


def test_a_shared_block_is_cached_when_its_last_holder_leaves() -> None:
    pool = BlockPool(2)
    blocks = filled(pool, b"a")
    pool.hold(blocks)
    pool.hold(blocks)
    pool.release(blocks)
    assert pool.num_used == 1
    pool.release(blocks)
    assert (pool.num_used, pool.num_cached) == (0, 1)


def test_two_blocks_with_one_content_are_known_as_the_first() -> None:
    pool = BlockPool(2)
    first, second = pool.allocate(2)
    pool.publish(first, b"a", b"", NOTHING)
    pool.publish(second, b"a", b"", NOTHING)
    assert pool.match([b"a"]) == [first]
    pool.release([first, second])
    pool.check_integrity([])
    assert pool.num_cached == 1


def test_of_the_newest_blocks_behind_another_the_one_that_begins_most_alike_is_found() -> None:
    pool = BlockPool(MAX_SIBLINGS + 2)
    for number in range(MAX_SIBLINGS + 1):
        [block] = pool.allocate(1)
        last = 3 if number == 0 else 10 + number
        pool.publish(block, bytes([number]), b"parent", content(1, 2, last))
        pool.release([block])
    assert pool.match_part(b"parent", content(1, 2, 12)) == (2, 3)
    assert pool.match_part(b"parent", content(1, 2, 3)) == (
        MAX_SIBLINGS,
        2,
    )  # the oldest is not asked
    assert pool.match_part(b"parent", content(2, 2, 3)) == (-1, 0)
    assert pool.match_part(b"other", content(1, 2, 3)) == (-1, 0)
    pool.drop_cached()
    assert pool.match_part(b"parent", content(1, 2, 12)) == (-1, 0)
    pool.check_integrity([])


def test_what_is_not_to_be_trusted_is_not_found_again() -> None:
    pool = BlockPool(2)
    blocks = filled(pool, b"a", b"b")
    pool.hold(blocks)
    pool.unpublish(blocks[1:])
    pool.release(blocks)
    assert pool.match([b"a", b"b"]) == blocks[:1]
    pool.unpublish(blocks[:1])  # nobody holds it
    assert pool.match([b"a"]) == []
    pool.check_integrity([])
    assert pool.num_available == 2


def test_books_that_do_not_add_up_are_noticed() -> None:
    pool = BlockPool(4)
    held = pool.allocate(2)
    pool.check_integrity([held])
    with pytest.raises(AssertionError):
        pool.check_integrity([])
    with pytest.raises(AssertionError):
        pool.check_integrity([held, held])


def test_a_block_cannot_be_given_back_twice() -> None:
    pool = BlockPool(4)
    held = pool.allocate(1)
    pool.release(held)
    with pytest.raises(AssertionError):
        pool.release(held)


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("atpru"), st.integers(0, 7), st.integers(1, 4)), max_size=80
    )
)
def test_free_cached_and_used_are_all_there_is(steps: list[tuple[str, int, int]]) -> None:
    pool, held = BlockPool(8), list[list[int]]()
    for what, key, count in steps:
        if what == "a" and count <= pool.num_available:
            held.append(pool.allocate(count))
        elif what == "t" and (found := pool.match([bytes([key])])):
            pool.hold(found)
            held.append(found)
        elif what == "p" and held:
            pool.publish(held[key % len(held)][0], bytes([key]), bytes([count]), content(key))
        elif what == "u" and held:
            pool.unpublish(held[key % len(held)])
        elif what == "u":
            pool.unpublish(pool.match([bytes([key])]))
        elif what == "r" and held:
            pool.release(held.pop(key % len(held)))
        pool.check_integrity(held)
    for blocks in held:
        pool.release(blocks)
    pool.check_integrity([])
    assert pool.num_used == 0
