"""Tokens cut characters; the text shows only whole ones."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.service.detokenizer import Detokenizer

TEXTS = ["中", "😀", "👨‍👩‍👧", "สวัสดี", "שָׁלוֹם", "é", "\ufeffa", "a\u2028b", "�"]
BAD = [b"\xff", b"\xe4", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xc0\x80", b"\xed\xa0\x80", b"\xe4a"]
BAD += [b"\xf4\x90\x80\x80", b"\x80", b"\xf0\x9f\xe4\xb8\xad"]


class Vocabulary:
    """Token i is the i-th of some pieces."""

    def __init__(self, pieces) -> None:
        self.pieces = pieces
        self.num_tokens = len(pieces)

    def encode(self, text):
        raise NotImplementedError

    def special_id(self, name):
        raise NotImplementedError

    def token_bytes(self, token_id):
        return self.pieces[token_id]


def decode(pieces) -> list[str]:
    detokenizer = Detokenizer(Vocabulary(pieces))
    return [*(detokenizer.feed(i) for i in range(len(pieces))), detokenizer.finish()]


@pytest.mark.parametrize("text", TEXTS)
def test_a_character_cut_anywhere_is_shown_whole(text) -> None:
    data = text.encode()
    for cut in range(len(data) + 1):
        for second in range(cut, len(data) + 1):
            shown = decode([data[:cut], data[cut:second], data[second:]])
            assert "".join(shown) == text
            assert "\ufffd" in text or not any("\ufffd" in piece for piece in shown)


def test_text_is_shown_as_soon_as_it_is_whole() -> None:
    assert decode([b"a\xe4", b"\xb8", b"\xad", b"b", b""]) == ["a", "", "中", "b", "", ""]


def test_a_character_that_never_ends_is_replaced_at_the_end() -> None:
    assert decode([b"a", b"\xe4\xb8"]) == ["a", "", "\ufffd"]


def test_bytes_that_cannot_become_a_character_do_not_hold_back_the_rest() -> None:
    assert decode([b"\xff", b"a"]) == ["\ufffd", "a", ""]


fragments = st.sampled_from([*(t.encode() for t in TEXTS), *BAD]) | st.binary(max_size=4)


@settings(deadline=None)
@given(whole=st.lists(fragments, max_size=8).map(b"".join), data=st.data())
def test_pieces_joined_are_the_whole_decoded_at_once(whole, data) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]
    shown = decode([whole[a:b] for a, b in itertools.pairwise(edges)])
    assert "".join(shown) == whole.decode("utf-8", "replace")
    for piece in shown:
        piece.encode()  # every piece is valid by itself
