"""One path from tokens to shown text: the same text and the same count however tokens arrive."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.service.answer_text import AnswerText
from sightline.service.formats.contract import NO_TOOLS
from sightline.service.formats.glm4_tools import Glm4Answer

END = 256
NEXT_MESSAGE = 264


def words() -> Glm4Answer:
    return Glm4Answer(NO_TOOLS, next_message=NEXT_MESSAGE)


def run(kit, deltas, stop=()) -> tuple[str, int, bool]:
    text = AnswerText(kit.ByteTokenizer(), words(), stop=stop, stop_token_ids=(END,))
    shown = ""
    for delta in deltas:
        shown += text.feed(delta).text
        if text.is_stopped:
            return shown, text.num_tokens, True
    return shown + text.finish().text, text.num_tokens, text.is_stopped


def test_the_hidden_stop_token_is_counted_and_not_shown(kit) -> None:
    assert run(kit, [b"\nhi", (END,)]) == ("hi", 4, False)


def test_a_stop_token_is_hidden_even_where_it_has_bytes(kit) -> None:
    text = AnswerText(kit.ByteTokenizer(), words(), stop=(), stop_token_ids=(ord("."),))
    assert text.feed(b"\nhi.").text == "hi"
    assert text.num_tokens == 4


def test_the_stripped_newline_is_no_stop_string(kit) -> None:
    assert run(kit, [b"\n", b"a\nb"], stop=("\n",)) == ("a", 3, True)


def test_a_stop_string_ends_the_count_at_its_last_token(kit) -> None:
    assert run(kit, [b"one END and more"], stop=("END",)) == ("one ", 7, True)


def test_a_stop_string_may_end_in_a_character_that_takes_three_tokens(kit) -> None:
    deltas = [(byte,) for byte in "图中。没了".encode()]
    assert run(kit, deltas, stop=("中。",)) == ("图", 9, True)


answers = st.lists(st.sampled_from([*"ab中😀\n", "END", "<|user|>"]), max_size=12).map("".join)


@settings(deadline=None)
@given(
    answer=answers | st.binary(max_size=12),
    stop=st.lists(st.sampled_from(["END", "b", "中a", "\n\n", "\ufffd"]), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=12),
    ended=st.booleans(),
)
def test_text_and_count_do_not_depend_on_the_cut(kit, answer, stop, cuts, ended) -> None:
    ids = [*(answer.encode() if isinstance(answer, str) else answer), *([END] if ended else [])]
    edges = [0, *sorted(min(cut, len(ids)) for cut in cuts), len(ids)]
    pieces = [ids[a:b] for a, b in itertools.pairwise(edges)]
    one_by_one = run(kit, [[i] for i in ids], stop)
    assert run(kit, pieces, stop) == run(kit, [ids], stop) == one_by_one


@settings(deadline=None)
@given(answer=answers)
def test_without_stop_strings_the_whole_answer_is_shown_and_counted(kit, answer) -> None:
    ids = answer.encode()
    expected = answer.removeprefix("\n")
    assert run(kit, [ids, (END,)]) == (expected, len(ids) + 1, False)
