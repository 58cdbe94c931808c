"""A picture that was read before is not read again, and nobody can tell but by the clock."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from front import Front, chat, serving

from sightline.core.chat import ImagePart
from sightline.core.errors import RequestError
from sightline.core.limits import Limits
from sightline.media.known_base64 import KnownBase64
from sightline.server.intake import Terms
from sightline.server.openai.convert import ChatCall
from sightline.server.openai.routes import read_chat
from sightline.server.received import MAX_SEEN, SMALL_BYTES, Received
from sightline.server.responses.convert import ResponsesCall
from sightline.server.responses.routes import _understand as read_response

FILE = bytes(range(256)) * 256  # over 64 KiB as base64, as much as any other field may hold
DIGITS = base64.b64encode(FILE).decode()
URL = f"data:image/png;base64,{DIGITS}"
SALT = b"tenant"


@pytest.fixture
def known() -> KnownBase64:
    known = KnownBase64()
    known.note(known.digest(DIGITS.encode(), SALT), b"file")
    return known


def terms_of(known: KnownBase64, salt: bytes = SALT, *, strict: bool = False) -> Terms:
    return Terms(strict=strict, limits=Limits(), cache_salt=salt, known=known)


def received(body: bytes, terms: Terms, piece_bytes: int = 1_000_000) -> Received:
    whole = Received(lambda: terms.known.recogniser(terms.cache_salt))
    for start in range(0, len(body), piece_bytes):
        whole.add(body[start : start + piece_bytes])
    return whole


def chat_of(body: bytes, terms: Terms) -> ChatCall:
    return read_chat(received(body, terms), terms)


def response_of(body: bytes, terms: Terms) -> ResponsesCall:
    return read_response(received(body, terms), terms)


def pictures(call: ChatCall) -> list[ImagePart]:
    return [part for message in call.request.messages for part in message.images]


def without_pictures(call: ChatCall) -> ChatCall:
    """Return what is left to compare: ids differ, and addresses may be shorter."""
    messages = tuple(
        replace(
            message,
            parts=tuple(
                replace(part, source="", inline=None) if isinstance(part, ImagePart) else part
                for part in message.parts
            ),
        )
        for message in call.request.messages
    )
    return replace(call, request=replace(call.request, request_id="", messages=messages))


def test_a_known_picture_keeps_its_place_and_its_digits(known: KnownBase64) -> None:
    body = json.dumps(chat("what?", "http://a.example/x.png", URL, temperature=1)).encode()
    call, plain = chat_of(body, terms_of(known)), chat_of(body, terms_of(KnownBase64()))
    fetched, picture = pictures(call)
    assert fetched == pictures(plain)[0]
    assert picture.inline is not None
    assert picture.inline.text() == DIGITS
    assert URL.startswith(picture.source)
    assert len(picture.source) < 200
    assert pictures(plain)[1].inline is None
    assert without_pictures(call) == without_pictures(plain)


def test_a_picture_that_stands_there_twice_is_put_back_twice(known: KnownBase64) -> None:
    call = chat_of(json.dumps(chat("what?", URL, URL)).encode(), terms_of(known))
    first, second = pictures(call)
    assert first.inline is not None
    assert second.inline is not None
    assert first.inline.digest == second.inline.digest
    assert (first.param, second.param) == (
        "messages[0].content[0].image_url",
        "messages[0].content[1].image_url",
    )


def test_a_response_knows_pictures_too(known: KnownBase64) -> None:
    part = {"type": "input_image", "image_url": URL, "detail": "auto"}
    body = {"model": "m", "input": [{"role": "user", "content": [part]}]}
    asked = response_of(json.dumps(body).encode(), terms_of(known))
    (picture,) = pictures(asked.call)
    assert picture.inline is not None
    assert picture.param == "input[0].content[0].image_url"


def test_the_picture_of_another_tenant_is_not_known(known: KnownBase64) -> None:
    body = json.dumps(chat("what?", URL)).encode()
    (picture,) = pictures(chat_of(body, terms_of(known, b"another")))
    assert picture.inline is None


def test_a_picture_that_came_twice_is_only_compared_from_then_on(known: KnownBase64) -> None:
    body = json.dumps(chat("what?", URL)).encode()
    terms = terms_of(known)
    chat_of(body, terms)
    kept = received(body, terms, 10_000)
    (run,) = kept.runs
    assert run.begins_as_kept
    assert run.digest == known.digest(DIGITS.encode(), SALT)
    (picture,) = pictures(read_chat(kept, terms))
    assert picture.inline is not None
    assert picture.inline.text() == DIGITS


@pytest.mark.parametrize("piece_bytes", [1, 3, 7, 8, 9, 1000, 70_000])
def test_digits_are_the_same_however_they_come(known: KnownBase64, piece_bytes: int) -> None:
    body = json.dumps(chat("what?", URL[:900], URL, f"{URL};base64,A")).encode()
    terms = terms_of(known)
    whole, cut = received(body, terms, len(body)), received(body, terms, piece_bytes)
    assert cut.runs == whole.runs
    assert [run.end - run.start for run in whole.runs] == [len(DIGITS), len(DIGITS) + 9]
    assert whole.runs[0].digest == known.digest(DIGITS.encode(), SALT)
    (run, _) = whole.runs
    assert b"".join(cut.between(run.start, run.end)) == DIGITS.encode()
    assert cut.whole() == body


def test_a_body_that_drips_is_kept_in_few_pieces(known: KnownBase64) -> None:
    body = json.dumps(chat("what?", URL)).encode()
    dripped = received(body, terms_of(known), 10)
    pieces = list(dripped.between(0, len(body)))
    assert b"".join(pieces) == body
    assert len(pieces) <= len(body) // SMALL_BYTES + 1


def test_behind_more_marks_than_there_may_be_pictures_nothing_is_looked_for(
    known: KnownBase64,
) -> None:
    body = json.dumps(chat("x", *["data:image/png;base64,AAAA"] * MAX_SEEN, URL)).encode()
    assert received(body, terms_of(known)).runs == []


def test_a_byte_order_mark_is_no_part_of_a_body(known: KnownBase64) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(chat("what?", URL)).encode()
    (picture,) = pictures(chat_of(body, terms_of(known)))
    assert picture.inline is not None
    assert received(body, terms_of(known)).whole() == body[3:]


ELSEWHERE: dict[str, dict[str, Any]] = {
    "in a text": chat(f"say {URL}"),
    "in a text and in a picture": chat(URL, URL),
    "in an unknown field": chat("hi", foo=URL),
    "in a name of a field": chat("hi") | {URL: 1},
    "in two names of one field": chat("hi", a={URL: 1, URL + "x": 2}),
    "in the arguments of a call": {
        "model": "m",
        "messages": [
            {
                "role": "assistant",
                "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": URL}}],
            }
        ],
    },
}


def outcome(read: Callable[[], ChatCall]) -> object:
    try:
        call = read()
    except RequestError as error:
        return error.message, error.code, error.param
    sources = [part.source for part in pictures(call) if part.inline is None]
    return without_pictures(call), sources


@pytest.mark.parametrize("place", ELSEWHERE)
def test_digits_where_no_picture_is_expected_are_what_they_are(
    known: KnownBase64, place: str
) -> None:
    body = json.dumps(ELSEWHERE[place]).encode()
    told = outcome(lambda: chat_of(body, terms_of(known)))
    assert told == outcome(lambda: chat_of(body, terms_of(KnownBase64())))


SPOILED: dict[str, bytes] = {
    "not JSON behind the picture": json.dumps(chat("x", URL)).encode()[:-1] + b",}",
    "not JSON around the digits": b'{"a": x;base64,' + DIGITS.encode() + b'"}',
    "a name given twice": b'{"' + URL.encode() + b'":1,"' + URL.encode() + b'":2}',
    "a wrong type": json.dumps(chat("x", URL, max_tokens="5")).encode(),
    "a role that shows no pictures": json.dumps(chat("x", URL))
    .replace('"user"', '"system"')
    .encode(),
    "a long user": json.dumps(chat("x", user=URL)).encode(),
    "no end": json.dumps(chat("x", URL)).encode()[:70_000],
}


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", SPOILED)
def test_an_error_is_told_as_if_nothing_were_known(
    known: KnownBase64, case: str, strict: bool
) -> None:
    told = outcome(lambda: chat_of(SPOILED[case], terms_of(known, strict=strict)))
    assert isinstance(told, tuple)
    assert isinstance(told[0], str), "it should be refused"
    plain = terms_of(KnownBase64(), strict=strict)
    assert told == outcome(lambda: chat_of(SPOILED[case], plain))


def test_a_text_with_digits_that_are_known_is_counted_whole() -> None:
    known = KnownBase64()
    known.note(known.digest(DIGITS.encode(), b""), b"file")
    with serving(Front(server_options={"known": known})) as front:
        body = {"model": "sightline-fake", "prompt": URL, "add_special_tokens": False}
        answer = front.post(body, path="/v1/tokenize").json()
        assert answer["count"] == len(URL)
        assert front.post(chat("what?", URL)).status_code == 200
        (span,) = front.engine.requests[-1].prompt.images
        assert span.length == 18
