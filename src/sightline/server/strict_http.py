"""An HTTP/1.1 parser that reads strictly: what two readers could read differently is refused.

h11 is correct but generous: it takes bare line feeds, folded headers, a length beside chunks and
chunks of any size, and has one bound for the whole head. This connection looks at the raw bytes of
each head before and after h11 does. Every refusal is an `h11.RemoteProtocolError`, as h11's own
are; `refusal` says what to answer.
"""

import re

import h11
from h11._headers import Headers
from h11._readers import ContentLengthReader
from h11._writers import ChunkedWriter

from sightline.core.errors import RequestError, SightlineError, Unavailable
from sightline.core.limits import KIB, Limits
from sightline.server.error_map import BAD_REQUEST

_LENGTH_LINE = re.compile(rb"\r\ncontent-length[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_PLAIN_LENGTH = re.compile(rb"[0-9]{1,18}[ \t]*")
_ALWAYS_SERVED = frozenset({b"/health/live"})


class StrictConnection(h11.Connection):
    """The server's side of one connection.

    On a crowded server (`is_crowded`) only the liveness probe is let through.
    """

    def __init__(self, limits: Limits) -> None:
        # h11's own bound stays above ours, so that ours decide and can name themselves.
        head_bytes = limits.max_request_line_bytes + limits.max_header_bytes
        super().__init__(h11.SERVER, head_bytes + 4 * KIB)
        self._limits = limits
        self._num_chunks = 0
        self._head = b""
        self.refusal: SightlineError | None = None
        self.is_head_request = False
        self.has_partial_head = False
        self.is_crowded = False

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event. Raises `h11.RemoteProtocolError` and sets `refusal`."""
        if self.their_state is not h11.IDLE:
            return self._next_body_event()
        received = bytes(self.trailing_data[0])
        self._judge_size(received)
        event = super().next_event()
        self.has_partial_head = event is h11.NEED_DATA and bool(received)
        if isinstance(event, h11.Request):
            self._num_chunks = 0
            self.is_head_request = event.method == b"HEAD"
            self._judge_head(received, event)
        return event

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]
        """Frame an event. A piece of a chunked answer needs no state machine, for each token.

        The head goes out together with what follows it at once: in one packet.
        """
        if type(event) is h11.Response:
            self._head = super().send(event) or b""
            return b""
        head, self._head = self._head, b""
        data = self._frame(event)
        return head + data if head and data is not None else data

    def frame_piece(self, data: bytes) -> bytes | None:
        """Frame a piece of a chunked answer whose head is on its way; None for all others."""
        if self._head or type(self._writer) is not ChunkedWriter:
            return None
        if self.our_state is not h11.SEND_BODY:
            return None
        return b"%x\r\n%b\r\n" % (len(data), data) if data else b""

    def _frame(self, event: h11.Event) -> bytes | None:
        piece = self.frame_piece(event.data) if type(event) is h11.Data else None
        return super().send(event) if piece is None else piece

    def _clean_up_response_headers_for_sending(self, response: h11.Response) -> h11.Response:
        """Say how the body is framed, without h11's way of reading all headers again for it."""
        headers = response.headers
        names = {name for name, _ in headers}
        if (
            self.their_http_version != b"1.1"
            or not self._cstate.keep_alive
            or self._request_method == b"HEAD"
            or response.status_code in (204, 304)
            or b"transfer-encoding" in names
        ):
            return super()._clean_up_response_headers_for_sending(response)
        if b"content-length" in names:
            return response
        framing = (b"Transfer-Encoding", b"transfer-encoding", b"chunked")
        return h11.Response(
            headers=Headers([*headers._full_items, framing]),
            status_code=response.status_code,
            http_version=response.http_version,
            reason=response.reason,
            _parsed=True,
        )

    @property
    def num_missing(self) -> int:
        """How many bytes of a body of known length have not been seen; 0 for other bodies."""
        reader = self._reader
        return reader._remaining if isinstance(reader, ContentLengthReader) else 0

    @num_missing.setter
    def num_missing(self, num_bytes: int) -> None:
        """Skip bytes of the body that were taken past this parser."""
        assert isinstance(self._reader, ContentLengthReader)
        self._reader._remaining = num_bytes

    def _next_body_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Data) and event.chunk_start:
            self._num_chunks += 1
            if self._num_chunks > self._limits.max_body_chunks:
                limit = self._limits.max_body_chunks
                self._refuse(
                    RequestError(
                        f"Body comes in more than {limit} pieces.", code="request_too_large"
                    )
                )
        # h11 shows a chunk only once bytes of it are there, but knows its size before.
        if getattr(self._reader, "_bytes_in_chunk", 0) > self._limits.max_body_bytes:
            self._refuse(malformed("a chunk is larger than any body may be"))
        if event is h11.NEED_DATA and getattr(self._reader, "_bytes_in_chunk", None) == 0:
            # Between chunks h11 waits for a CR LF, however many lines of another kind come in.
            pending = bytes(self.trailing_data[0])
            if pending.count(b"\n") != pending.count(b"\r\n"):
                self._refuse(malformed("lines must end with CR LF"))
        return event

    def _judge_size(self, received: bytes) -> None:
        """Refuse a request line, a number of headers or a head that is over its limit."""
        limits = self._limits
        line_end = received.find(b"\r\n")
        line_bytes = len(received) if line_end < 0 else line_end
        if line_bytes > limits.max_request_line_bytes:
            self._refuse(
                RequestError(
                    f"Request line is over the limit of {limits.max_request_line_bytes} bytes.",
                    code="uri_too_long",
                )
            )
        if line_end < 0:
            return
        head_end = received.find(b"\r\n\r\n", line_end)
        headers = received[line_end + 2 : head_end if head_end >= 0 else len(received)]
        if len(headers) > limits.max_header_bytes:
            self._refuse(
                RequestError(
                    f"Header block is over the limit of {limits.max_header_bytes // KIB} KiB.",
                    code="headers_too_large",
                )
            )
        if headers.count(b"\r\n") + (head_end >= 0) > limits.max_headers:
            self._refuse(
                RequestError(
                    f"More than the limit of {limits.max_headers} headers.",
                    code="headers_too_large",
                )
            )

    def _judge_head(self, received: bytes, request: h11.Request) -> None:
        """Refuse a complete head that is ambiguous or asks for another protocol."""
        head_end = received.find(b"\r\n\r\n")
        head = received[: head_end + 2]
        if head_end < 0 or head.count(b"\n") != head.count(b"\r\n"):
            self._refuse(malformed("lines must end with CR LF"))
        if b"\r\n " in head or b"\r\n\t" in head:
            self._refuse(malformed("folded headers are not accepted"))
        if request.http_version not in (b"1.0", b"1.1"):
            self._refuse(malformed("only HTTP/1.1 is spoken here"))
        if request.method == b"CONNECT" or not request.target.startswith(b"/"):
            self._refuse(malformed("the request target must be a path"))
        lengths = _LENGTH_LINE.findall(head)
        if len(lengths) > 1 or not all(_PLAIN_LENGTH.fullmatch(length) for length in lengths):
            self._refuse(malformed("Content-Length must be one number"))
        names = {name for name, _ in request.headers}
        if lengths and b"transfer-encoding" in names:
            self._refuse(malformed("Content-Length and Transfer-Encoding exclude each other"))
        if b"transfer-encoding" in names and request.http_version == b"1.0":
            self._refuse(malformed("Transfer-Encoding needs HTTP/1.1"))
        if any(
            name == b"upgrade" and value.lower().strip() == b"websocket"
            for name, value in request.headers
        ):
            self._refuse(malformed("WebSocket is not spoken here"))
        if self.is_crowded and request.target not in _ALWAYS_SERVED:
            self._refuse(Unavailable("Too many connections; retry in 1 s.", code="overloaded"))

    def _refuse(self, error: SightlineError) -> None:
        self.refusal = error
        raise h11.RemoteProtocolError(error.message)


def malformed(what: str | None = None) -> RequestError:
    """Return the error for bytes that are not HTTP, or not HTTP that we accept."""
    text = "Invalid HTTP request" + (f": {what}." if what else ".")
    return RequestError(text, code=BAD_REQUEST)
