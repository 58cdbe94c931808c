"""Equal keys mean equal content, and nothing but content makes keys differ."""

from pretend_device import sequence

from sightline.engine.block_keys import BlockContent, block_content, extend_keys
from sightline.engine.sequence import Sequence

SIZE = 4
A, B = b"picture a", b"picture b"


def keys(asked: Sequence) -> list[bytes]:
    extend_keys(asked, SIZE, len(asked.prompt) // SIZE)
    return asked.block_keys


def shared(first: Sequence, second: Sequence) -> list[bool]:
    return [one == other for one, other in zip(keys(first), keys(second), strict=True)]


def test_equal_beginnings_have_equal_keys_up_to_the_first_difference() -> None:
    first = sequence([1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9])
    second = sequence([1, 2, 3, 4, 5, 0, 7, 8, 9, 9, 9, 9])
    assert shared(first, second) == [True, False, False]


def test_two_pictures_with_equal_placeholders_share_nothing_from_their_first_row_on() -> None:
    prompt = [1] * 5 + [99] * 4 + [1] * 7
    first = sequence(prompt, images=[(A, 5, 4)])
    second = sequence(prompt, images=[(B, 5, 4)])
    assert shared(first, second) == [True, False, False, False]
    assert shared(first, sequence(prompt)) == [True, False, False, False]


def test_a_block_inside_a_picture_knows_which_of_its_rows_it_holds() -> None:
    prompt = [99] * 16
    first = sequence(prompt, images=[(A, 0, 16)])
    second = sequence(prompt, images=[(A, 0, 8), (A, 8, 8)])
    assert shared(first, second) == [False] * 4
    assert len(set(keys(first))) == 4


def test_the_same_picture_is_the_same_wherever_it_came_from() -> None:
    prompt = [99] * 8 + [1, 2, 3, 4]
    first, second = (sequence(prompt, images=[(A, 0, 8)]) for _ in range(2))
    assert shared(first, second) == [True] * 3


def test_tenants_share_nothing() -> None:
    prompt = [1, 2, 3, 4]
    assert shared(sequence(prompt, salt=b"one"), sequence(prompt, salt=b"two")) == [False]


def test_keys_of_an_answer_are_those_of_a_prompt_that_repeats_it() -> None:
    first = sequence([1, 2, 3])
    first.answer += [4, 5, 6, 7, 8]
    extend_keys(first, SIZE, 2)
    assert first.block_keys == keys(sequence([1, 2, 3, 4, 5, 6, 7, 8]))


def test_keys_grow_with_the_tokens_and_do_not_change() -> None:
    asked = sequence(range(12))
    extend_keys(asked, SIZE, 1)
    before = list(asked.block_keys)
    extend_keys(asked, SIZE, 3)
    assert asked.block_keys[:1] == before
    assert len(asked.block_keys) == 3


def test_contents_are_equal_up_to_the_first_token_or_picture_that_differs() -> None:
    prompt = [1, 2, *[99] * 4, 3, 4]

    def content(*images: tuple[bytes, int, int], start: int = 0) -> BlockContent:
        return block_content(sequence(prompt, images=images), start, 8)

    whole = content((A, 2, 4))
    assert whole.count_equal(content((A, 2, 4))) == 8
    assert whole.count_equal(content((B, 2, 4))) == 2
    assert whole.count_equal(content((A, 2, 3))) == 2
    assert whole.count_equal(content((A, 3, 3))) == 2
    assert whole.count_equal(content()) == content().count_equal(whole) == 2
    assert whole.count_equal(content((A, 2, 4), (B, 6, 1))) == 6
    assert whole.count_equal(block_content(sequence([1, 7, 99]), 0, 3)) == 1


def test_contents_inside_a_picture_are_equal_only_from_the_same_row_on() -> None:
    one, other = (
        block_content(sequence([99] * 9 + [1], images=[(A, 0, 9)]), start, start + 4)
        for start in (4, 5)
    )
    assert one.count_equal(one) == 4
    assert one.count_equal(other) == 0
