"""Bodies that are taken straight from the socket."""

import json

import pytest
from front import Front, chat, eventually, raw_post, read_answer, serving

from sightline.core.held_bytes import HeldBytes
from sightline.core.limits import MIB

FIRST = json.dumps(chat("long", extra="x" * 300_000)).encode()
SECOND = json.dumps(chat("short")).encode()


def kept_open(body: bytes) -> bytes:
    return raw_post(body).replace(b"Connection: close\r\n", b"")


@pytest.mark.parametrize("piece_bytes", [1_000, 70_000, 10**6])
def test_a_long_body_and_the_request_behind_it_are_both_answered(
    front: Front, piece_bytes: int
) -> None:
    data = kept_open(FIRST) + raw_post(SECOND)
    with front.connect() as connection:
        for start in range(0, len(data), piece_bytes):
            connection.sendall(data[start : start + piece_bytes])
        answers = read_answer(connection).body
    first, second = answers.index(b'"content":"long"'), answers.index(b'"content":"short"')
    assert first < second


def test_a_client_that_leaves_in_the_middle_of_a_long_body_leaves_nothing_behind() -> None:
    book = HeldBytes(MIB)
    with serving(Front(server_options={"held_bytes": book})) as front:
        with front.connect() as connection:
            connection.sendall(kept_open(FIRST)[:200_000])
            assert eventually(lambda: book.num_bytes > 0)
        assert eventually(lambda: book.num_bytes == 0)
        assert front.is_idle()
