"""JSON as it leaves the server: one encoding, however it is made."""

from hypothesis import given
from hypothesis import strategies as st

from sightline.server import ascii_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(VALUES, st.integers(0, 8))
def test_parts_make_the_same_bytes(value: object, depth: int) -> None:
    assert ascii_json.encode_parts(value, depth) == ascii_json.encode(value)


@given(st.lists(st.integers() | st.text()), st.integers(1, 5))
def test_pieces_of_a_list_make_the_same_bytes(values: list[object], piece: int) -> None:
    before = ascii_json.PIECE
    ascii_json.PIECE = piece
    try:
        assert ascii_json.encode_list(values) == ascii_json.encode(values)
    finally:
        ascii_json.PIECE = before
