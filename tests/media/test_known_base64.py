"""Texts that are known by what they say, however they come in."""

from hypothesis import given
from hypothesis import strategies as st

from sightline.media.known_base64 import KnownBase64
from sightline.media.recogniser import BEGINNING_CHARS

SALT = b"tenant"
TEXT = bytes(range(65, 91)) * (3 * BEGINNING_CHARS // 26)
CUTS = st.lists(st.integers(0, len(TEXT)), max_size=6)


def read(known: KnownBase64, text: bytes, cuts: list[int], salt: bytes = SALT) -> bytes:
    """Return the digest of `text` that comes in the pieces between `cuts`."""
    recogniser = known.recogniser(salt)
    ends = [*sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in zip([0, *ends], ends, strict=False):
        piece = text[start:end]
        if not recogniser.goes_on_with(piece):
            recogniser.update(memoryview(piece))
    return recogniser.digest()


def begins_as_kept(known: KnownBase64, text: bytes, salt: bytes = SALT) -> bool:
    recogniser = known.recogniser(salt)
    recogniser.update(text)
    return recogniser.begins_as_kept


@given(CUTS, st.integers(0, len(TEXT) - 1), st.sampled_from(["changed", "cut", "longer", "same"]))
def test_what_is_kept_does_not_change_what_a_text_is_known_by(
    cuts: list[int], place: int, how: str
) -> None:
    known = KnownBase64()
    digest = known.digest(TEXT, SALT)
    known.keep(TEXT, digest, SALT)
    text = {
        "changed": TEXT[:place] + b"a" + TEXT[place + 1 :],
        "cut": TEXT[:place],
        "longer": TEXT + TEXT[:place] + b"a",
        "same": TEXT,
    }[how]
    assert read(known, text, cuts) == known.digest(text, SALT)
    assert (read(known, text, cuts) == digest) == (how == "same")


def test_what_one_tenant_sent_twice_is_kept_for_no_other() -> None:
    known = KnownBase64()
    known.keep(TEXT, known.digest(TEXT, SALT), SALT)
    assert begins_as_kept(known, TEXT)
    assert not begins_as_kept(known, TEXT, b"another")


def test_the_texts_that_came_last_are_kept_as_far_as_there_is_room() -> None:
    known = KnownBase64(max_kept_bytes=2 * len(TEXT))
    first, second, third = (bytes([letter]) + TEXT[1:] for letter in b"abc")
    for text in (first, second):
        known.keep(text, known.digest(text, SALT), SALT)
    assert begins_as_kept(known, first)  # which makes it the last that came
    known.keep(third, known.digest(third, SALT), SALT)
    assert [begins_as_kept(known, text) for text in (first, second, third)] == [True, False, True]
    known.keep(b"d" + TEXT * 2, b"too long", SALT)
    assert begins_as_kept(known, third)
