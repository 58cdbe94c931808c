"""What all requests together may bring: bounded, counted exactly, given back whatever happens."""

import json

import pytest
from front import Front, chat, eventually, serving

from sightline.backends.fake import Reply
from sightline.core.errors import Overloaded
from sightline.core.held_bytes import HeldBytes
from sightline.core.limits import KIB, MIB, Limits


def test_what_was_taken_is_given_back() -> None:
    book = HeldBytes(10)
    with book.lease() as one, book.lease() as other:
        one.take(6)
        other.take(4)
        with pytest.raises(Overloaded):
            other.take(1)
        assert book.num_bytes == 10
    assert book.num_bytes == 0


def test_a_request_that_is_alone_is_let_in() -> None:
    book = HeldBytes(10)
    with book.lease() as one:
        one.take(100)
        with book.lease() as other, pytest.raises(Overloaded) as refused:
            other.take(1)
        assert refused.value.code == "queue_full"
    assert book.num_bytes == 0


def test_a_body_that_is_one_too_many_is_429_and_the_next_is_served() -> None:
    book = HeldBytes(2 * MIB)
    with serving(Front(limits=Limits(), server_options={"held_bytes": book})) as front:
        gate = front.new_gate()
        front.enqueue(Reply(["x", gate]))
        large = chat("x", stream=True, user="", padding="a" * (2 * MIB - 8 * KIB))
        with front.client.stream(
            "POST",
            f"{front.url}/v1/chat/completions",
            content=json.dumps(large),
            headers={"content-type": "application/json"},
        ) as running:
            pieces = running.iter_raw()  # let go of, it would hang up
            next(pieces)
            refused = front.post(chat("x", padding="a" * 16 * KIB))
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "queue_full"
            assert refused.headers["retry-after"] == "1"
            assert front.post(chat("x")).status_code == 200
        assert eventually(lambda: front.on_loop(lambda: book.num_bytes) == 0)
        assert front.post(chat("x", padding="a" * 16 * KIB)).status_code == 200
