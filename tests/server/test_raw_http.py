"""Bytes on the wire: one framing, strictly read, with clocks and counts from the first byte."""

import json
import select
import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from front import (
    Front,
    RawAnswer,
    chat,
    dechunk,
    eventually,
    raw_post,
    read_answer,
    read_one,
    serving,
)

from sightline.backends.fake import Reply
from sightline.core.limits import Limits
from sightline.server.outlet import LINGER_S

HOST = b"Host: 127.0.0.1\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST
POST = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST

MALFORMED = {
    "H04 no Host": b"GET /health HTTP/1.1\r\n\r\n",
    "H04 two Hosts": GET + HOST + b"\r\n",
    "H04 a Host with a path": b"GET /health HTTP/1.1\r\nHost: a/b?c\r\n\r\n",
    "H04 a Host with user": b"GET /health HTTP/1.1\r\nHost: a@127.0.0.1\r\n\r\n",
    "H04 an empty Host": b"GET /health HTTP/1.1\r\nHost:\r\n\r\n",
    "H04 an absolute target": b"GET http://a/health HTTP/1.1\r\n" + HOST + b"\r\n",
    "H04 a target without slash": b"GET @google.com HTTP/1.1\r\n" + HOST + b"\r\n",
    "H07 two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "H07 two equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "H07 a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}",
    "H07 a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "H07 a signed length": POST + b"Content-Length: +2\r\n\r\n{}",
    "H07 an endless length": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "H07 a length and chunks": (
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    ),
    "H07 chunks twice": (
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "H07 another transfer coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "H07 a negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "H07 bare line feeds around chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "H07 a chunk of 2^64": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    "H07 a bare line feed": b"GET /health HTTP/1.1\n" + HOST + b"\r\n",
    "H07 bare line feeds": b"GET /health HTTP/1.1\nHost: 127.0.0.1\n\n",
    "H07 NUL in a header": GET + b"X: a\x00b\r\n\r\n",
    "a carriage return in a header": GET + b"X: a\rb\r\n\r\n",
    "a folded header": GET + b"X: a\r\n b\r\n\r\n",
    "a space before the colon": GET + b"Content-Length : 0\r\n\r\n",
    "chunks in HTTP/1.0": (
        b"POST /v1/chat/completions HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "H12 HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "H12 a WebSocket": (
        GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ),
    "H12 CONNECT": b"CONNECT google.com:443 HTTP/1.1\r\nHost: google.com:443\r\n\r\n",
    "H12 TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300),
    "noise": b"\x00\xff" * 50 + b"\r\n\r\n",
    "another version": b"GET /health HTTP/3.7\r\n" + HOST + b"\r\n",
}


def assert_refused(answer: RawAnswer, status: int, code: str) -> None:
    assert answer.status == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["type"] == "invalid_request_error"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["openai-processing-ms"].isdigit()


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_not_plain_http_is_refused_and_closed(front: Front, case: str) -> None:
    assert_refused(front.exchange(MALFORMED[case]), 400, "bad_request")


def test_a_tls_client_is_refused_quickly(front: Front) -> None:
    context = ssl.create_default_context()
    with front.connect() as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_hostname="localhost")


def test_bytes_after_a_broken_chunk_are_not_read_as_a_request(front: Front) -> None:
    smuggled = b"GET /v1/models HTTP/1.1\r\n" + HOST + b"\r\n"
    data = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n" + smuggled
    answer = front.exchange(data)
    assert_refused(answer, 400, "bad_request")
    assert answer.body.count(b"HTTP/1.1") == 0


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json; charset=latin-1", 415),
        ("multipart/form-data; boundary=x", 415),
        ("", 415),
        ("application/jsonx", 415),
        ("application/json", 200),
        ("Application/JSON ; Charset=UTF-8", 200),
        ('application/json; charset="utf-8"', 200),
        ("application/vnd.api+json", 200),
    ],
)
def test_h01_only_json_is_taken(front: Front, content_type: str, status: int) -> None:
    answer = front.post(chat("hello"), content_type=content_type)
    assert answer.status_code == status
    if status == 415:
        assert answer.json()["error"]["code"] == "unsupported_media_type"


def test_h02_an_encoded_body_is_refused(front: Front) -> None:
    assert front.post(chat("hello"), content_encoding="gzip").status_code == 415
    assert front.post(chat("hello"), content_encoding="identity").status_code == 200


def test_h03_all_methods_of_a_path_are_named_in_order(front: Front) -> None:
    answer = front.request("PUT", "/v1/models")
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["error"]["message"].endswith("allowed: GET, HEAD.")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "TRACE", "FOO", "OPTIONS", "HEAD"])
def test_h03_another_method_is_405_and_the_right_one_is_named(front: Front, method: str) -> None:
    answer = front.request(method, "/v1/chat/completions")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    if method == "HEAD":
        assert answer.content == b""
    else:
        assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("size", [17 * 1024, 64 * 1024, 5 * 2**20])
def test_h05_headers_over_16_kib_are_refused(front: Front, size: int) -> None:
    answer = front.exchange(GET + b"X: " + b"x" * size + b"\r\n\r\n")
    assert_refused(answer, 431, "headers_too_large")
    assert answer.json()["error"]["message"] == "Header block is over the limit of 16 KiB."


def test_h05_65_headers_are_refused_and_64_are_not(front: Front) -> None:
    lines = b"".join(b"X-%d: y\r\n" % index for index in range(62))
    closing = b"Connection: close\r\n\r\n"
    assert front.exchange(GET + lines + closing).status == 200
    assert_refused(front.exchange(GET + lines + b"Z: y\r\n" + closing), 431, "headers_too_large")


@pytest.mark.parametrize("size", [8 * 1024 + 1, 2**20])
def test_h06_a_long_request_line_is_refused(front: Front, size: int) -> None:
    query = b"GET /health?" + b"q" * size + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    assert_refused(front.exchange(query), 414, "uri_too_long")


def test_h06_a_request_line_of_8_kib_is_read(front: Front) -> None:
    frame = len(b"GET /health? HTTP/1.1")
    line = b"GET /health?" + b"q" * (8192 - frame) + b" HTTP/1.1\r\n"
    assert front.exchange(line + HOST + b"Connection: close\r\n\r\n").status == 200


def test_pipelined_requests_are_answered_in_order(front: Front) -> None:
    first = b"GET /version HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = front.exchange(first + GET + b"Connection: close\r\n\r\n")
    assert answer.status == 200
    assert answer.body.count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.parametrize("num_bytes", [1, 5000, 20_000])
def test_long_bodies_in_one_packet_with_a_chunked_one_are_told_apart(
    front: Front, num_bytes: int
) -> None:
    """A body of known length is taken in one go, up to its last byte and no further."""
    body = json.dumps(chat("hello", user="x" * num_bytes)).encode()
    last = raw_post(body)
    sized = last.replace(b"Connection: close\r\n", b"")
    pieces = (body[start : start + 100] for start in range(0, len(body), 100))
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    answer = front.exchange(sized + chunked + last)
    assert answer.status == 200
    assert answer.body.count(b"HTTP/1.1 200 OK") == 2
    assert answer.body.count(b'"content":"hello"') == 3


def test_streams_keep_their_framing_for_old_clients_and_in_a_pipeline(front: Front) -> None:
    """Pieces of an answer take a shorter way than its head: only where it is in chunks."""
    text = "one two three four"
    body = b'{"model":"sightline-fake","stream":true,"messages":[{"role":"user","content":"%s"}]}'
    body %= text.encode()
    post = raw_post(body)

    def said(stream: bytes) -> str:
        lines = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {")]
        chunks = [json.loads(line)["choices"][0]["delta"] for line in lines]
        return "".join(chunk.get("content", "") for chunk in chunks)

    old = front.exchange(post.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert "transfer-encoding" not in {name.lower() for name in old.headers}
    assert said(old.body) == text
    assert old.body.endswith(b"data: [DONE]\n\n")
    with front.connect() as connection:
        connection.sendall(2 * post.replace(b"Connection: close\r\n", b""))
        for _ in range(2):
            stream = b""
            while not stream.endswith(b"\r\n0\r\n\r\n"):
                byte = connection.recv(1)
                assert byte, stream
                stream += byte
            head, _, rest = stream.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert said(dechunk(rest)) == text


def test_a_request_in_many_small_pieces_is_read(front: Front) -> None:
    data = raw_post(b'{"model": "sightline-fake", "messages": [{"role":"user","content":"hi"}]}')
    with front.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), 7):
            connection.sendall(data[start : start + 7])
        assert read_answer(connection).status == 200


def test_a_large_chunked_body_is_put_together_in_order(front: Front) -> None:
    text = "".join(f"{index:06d}" for index in range(150))
    body = b'{"model": "sightline-fake", "messages": [{"role":"user","content":"%s"}]}'
    body %= text.encode()
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece)
        for piece in (body[start : start + 3] for start in range(0, len(body), 3))
    )
    head = raw_post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    padding = b"4\r\n    \r\n" * 8000  # many reads, many slices
    answer = front.exchange(head + padding + chunks + b"0\r\n\r\n")
    assert answer.json()["choices"][0]["message"]["content"] == text


def test_a_client_that_waits_for_100_continue_gets_it(front: Front) -> None:
    body = b'{"model": "sightline-fake", "messages": [{"role":"user","content":"hi"}]}'
    head = raw_post(body, "Expect: 100-continue")[: -len(body)]
    with front.connect() as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_answer(connection).status == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
def test_h15_no_header_changes_who_the_client_is(
    front: Front, header: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "sightline.access"):
        front.get("/version", headers={header: "for=8.8.8.8"})
        assert eventually(lambda: bool(caplog.messages))
    assert '"client": "127.0.0.1"' in caplog.messages[0]
    assert "8.8.8.8" not in caplog.messages[0]


@pytest.fixture(scope="module")
def hasty() -> Iterator[Front]:
    """A server with short clocks."""
    limits = Limits(header_timeout_s=0.3, keep_alive_timeout_s=0.6, body_timeout_s=0.3)
    with serving(Front(limits=limits)) as front:
        yield front


def test_h09_a_dripping_head_is_timed_out(hasty: Front) -> None:
    started = time.monotonic()
    with hasty.connect() as connection:
        for (
            byte
        ) in b"GET /health HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy":
            connection.sendall(bytes([byte]))
            if select.select([connection], [], [], 0.02)[0]:
                break
        assert_refused(read_answer(connection), 408, "request_timeout")
    assert time.monotonic() - started < 5


def test_h09_the_clock_runs_for_the_second_head_of_a_connection_too(hasty: Front) -> None:
    with hasty.connect() as connection:
        connection.sendall(GET + b"\r\n")
        assert read_one(connection).status == 200
        connection.sendall(GET)
        assert_refused(read_answer(connection), 408, "request_timeout")


def test_h10_a_silent_connection_is_closed_without_a_word(hasty: Front) -> None:
    with hasty.connect() as connection:
        answer = read_answer(connection)
    assert answer.status == 0
    assert 0.25 < answer.seconds < 5


def test_an_idle_connection_is_closed_after_its_last_answer(hasty: Front) -> None:
    with hasty.connect() as connection:
        connection.sendall(GET + b"\r\n")
        assert read_one(connection).status == 200
        assert read_answer(connection).status == 0


def test_h11_silent_connections_do_not_disturb_the_others(hasty: Front) -> None:
    silent = [hasty.connect() for _ in range(200)]
    try:
        assert hasty.post(chat("hello")).status_code == 200
        assert all(read_answer(connection).status == 0 for connection in silent)
        assert eventually(lambda: not hasty.on_loop(lambda: silent_ones(hasty)))
    finally:
        for connection in silent:
            connection.close()


def silent_ones(front: Front) -> list[object]:
    return [c for c in front.server.server_state.connections if c.cycle is None]


def test_a_body_that_stops_coming_is_timed_out(hasty: Front) -> None:
    data = raw_post(b"{" + b" " * 10)
    with hasty.connect() as connection:
        connection.sendall(data[:-5])
        assert_refused(read_answer(connection), 408, "request_timeout")
    assert eventually(hasty.is_idle)


def test_a_body_that_comes_fast_enough_is_not_timed_out(hasty: Front) -> None:
    body = b'{"model": "sightline-fake", "messages": [{"role":"user","content":"hi"}]}'
    data = raw_post(body + b" " * 4096)
    with hasty.connect() as connection:
        connection.sendall(data[:3000])
        assert not select.select([connection], [], [], 0.5)[0]
        connection.sendall(data[3000:])
        assert read_answer(connection).status == 200


def test_a_crowded_server_still_says_that_it_lives() -> None:
    with serving(Front(max_connections=4)) as front:
        held = [front.connect() for _ in range(4)]
        try:
            assert eventually(lambda: len(front.server.server_state.connections) >= 4)
            refused = front.exchange(GET + b"\r\n")
            assert refused.status == 503
            assert refused.json()["error"]["code"] == "overloaded"
            assert refused.headers["retry-after"] == "1"
            live = b"GET /health/live HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
            assert front.exchange(live).status == 200
        finally:
            for connection in held:
                connection.close()


def test_an_answer_is_not_held_back_by_nagle(front: Front) -> None:
    with front.connect() as connection:
        for _ in range(3):
            connection.sendall(GET + b"\r\n")
            read_one(connection)
        protocol = next(iter(front.on_loop(lambda: list(front.server.server_state.connections))))
        socket_of = protocol.transport.get_extra_info("socket")
        assert socket_of.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


EARLY = b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n"


def test_a_body_that_was_answered_early_may_still_arrive(hasty: Front) -> None:
    with hasty.connect() as connection:
        connection.sendall(EARLY + b"x" * 1000)
        assert read_one(connection).status == 404
        connection.sendall(b"x" * 999_000 + GET + b"\r\n")
        assert read_one(connection).status == 200
        assert read_answer(connection).status == 0  # closed by the clock for idle connections


def test_an_early_answer_does_not_cut_off_the_next_one(front: Front) -> None:
    gate = front.new_gate()
    front.enqueue(Reply([gate, "late"]))
    body = b'{"model": "sightline-fake", "messages": [{"role":"user","content":"hi"}]}'
    with front.connect() as connection:
        connection.sendall(EARLY)
        assert read_one(connection).status == 404
        connection.sendall(b"x" * 1_000_000 + raw_post(body))
        assert not select.select([connection], [], [], LINGER_S + 0.2)[0]
        front.on_loop(gate.set)
        assert read_answer(connection).status == 200


def test_a_body_that_was_answered_early_and_never_ends_is_cut_off(hasty: Front) -> None:
    with hasty.connect() as connection:
        connection.sendall(EARLY)
        answer = read_answer(connection)
    assert answer.status == 404


def test_a_connection_is_closed_when_idle_after_a_late_body_too(hasty: Front) -> None:
    with hasty.connect() as connection:
        connection.sendall(EARLY)
        assert read_one(connection).status == 404
        connection.sendall(b"x" * 1_000_000)
        assert read_answer(connection).status == 0


def test_a_server_ends_although_a_refused_client_lingers() -> None:
    with serving(Front()) as front, front.connect() as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert read_one(connection).status == 400
        front.on_loop(front.server.start_drain)
        assert front.ended.wait(20)
