import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.models.positions import compressed_positions, next_position


@st.composite
def slots_and_spans(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    spans, end = [], 0
    for _ in range(draw(st.integers(0, 3))):
        start = end + draw(st.integers(0, 5))
        length = draw(st.integers(3, 12))
        spans.append((start, length))
        end = start + length
    return end + draw(st.integers(0, 5)), spans


def positions_by_the_rule(num_slots: int, spans: list[tuple[int, int]]) -> list[int]:
    """boi takes p, every patch p + 1, eoi p + 2, text goes on at p + 3."""
    positions: list[int] = []
    spans = list(spans)
    following = 0
    while len(positions) < num_slots:
        if spans and spans[0][0] == len(positions):
            _, length = spans.pop(0)
            positions += [following, *[following + 1] * (length - 2), following + 2]
            following += 3
        else:
            positions.append(following)
            following += 1
    return positions


@given(slots_and_spans())
def test_positions_follow_the_rule(case: tuple[int, list[tuple[int, int]]]) -> None:
    assert compressed_positions(*case).tolist() == positions_by_the_rule(*case)


@given(slots_and_spans())
def test_the_next_position_is_what_one_more_slot_of_text_would_have(
    case: tuple[int, list[tuple[int, int]]],
) -> None:
    num_slots, spans = case
    assert next_position(num_slots, spans) == compressed_positions(num_slots + 1, spans)[-1]


def test_a_full_size_image_costs_1602_slots_and_three_positions() -> None:
    positions = compressed_positions(1610, [(4, 1602)])
    assert positions[[3, 4, 5, 1604, 1605, 1606]].tolist() == [3, 4, 5, 5, 6, 7]
    assert next_position(1610, [(4, 1602)]) == 1610 - 1599


@pytest.mark.parametrize(
    "spans", [[(0, 2)], [(5, 6)], [(0, 5), (4, 3)], [(5, 3), (0, 3)], [(-1, 4)]]
)
def test_impossible_spans_are_refused(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="image"):
        compressed_positions(10, spans)
