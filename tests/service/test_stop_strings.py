"""Stop strings against an oracle that reads the whole text character by character."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.service.stop_strings import StopStrings


def oracle(text: str, stops: list[str]) -> tuple[str, str | None]:
    """Return what is shown of `text`, and the stop string that ended it."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


def feed(pieces, stops) -> tuple[list[str], str | None]:
    search = StopStrings(stops)
    shown = [search.feed(piece) for piece in pieces]
    return [*shown, search.finish()], search.matched


def cut_at(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


letters = st.sampled_from("ab中")
stops_of_letters = st.lists(st.text(letters, min_size=1, max_size=5), max_size=4)


@settings(deadline=None)
@given(
    text=st.text(letters, max_size=24),
    stops=stops_of_letters,
    cuts=st.lists(st.integers(0, 24), max_size=24),
)
def test_the_answer_ends_where_the_oracle_says_however_it_is_cut(text, stops, cuts) -> None:
    shown, matched = feed(cut_at(text, cuts), stops)
    assert ("".join(shown), matched) == oracle(text, stops)


@settings(deadline=None)
@given(text=st.text(letters, max_size=24), stops=stops_of_letters)
def test_no_more_is_held_back_than_may_still_become_a_stop_string(text, stops) -> None:
    search = StopStrings(stops)
    shown = ""
    for position, character in enumerate(text):
        shown += search.feed(character)
        if search.matched is not None:
            break
        held = text[len(shown) : position + 1]
        assert not held or any(stop.startswith(held) for stop in stops)


@settings(deadline=None)
@given(text=st.text(letters, max_size=24), stops=stops_of_letters)
def test_what_was_shown_never_needs_to_be_taken_back(text, stops) -> None:
    """At every moment, what is out is a beginning of what the whole answer will be."""
    final, _ = oracle(text, stops)
    search = StopStrings(stops)
    shown = ""
    for character in text:
        shown += search.feed(character)
        assert final.startswith(shown)


@pytest.mark.parametrize(
    ("pieces", "stops", "shown"),
    [
        (["the E", "N", "D of it"], ["END"], ["the ", "", "", ""]),
        (["the E", "arth"], ["END"], ["the ", "Earth", ""]),
        (["the E"], ["END"], ["the ", "E"]),
        (["aaa", "b"], ["aab"], ["a", "", ""]),
        (["abc"], ["abcd", "bc"], ["a", ""]),
        (["xabc"], ["c", "abc"], ["x", ""]),
        (["any", "thing"], [], ["any", "thing", ""]),
        (["END"], ["END"], ["", ""]),
    ],
)
def test_examples(pieces, stops, shown) -> None:
    assert feed(pieces, stops)[0] == shown


def test_nothing_is_shown_after_the_end() -> None:
    search = StopStrings(["."])
    assert search.feed("One.") == "One"
    assert search.feed("Two") == search.finish() == ""
