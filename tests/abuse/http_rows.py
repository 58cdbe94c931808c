"""Attacks below JSON: framing, heads, methods, paths and keys (H, A)."""

import json
from collections.abc import Iterator

from tests.abuse.rows import Builder, Row

CLOSED = (0, 400, 414, 426, 431, 501, 505)
METHODS = ("GET", "PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "FOO", "get", "HEAD")


def framing(make: Builder) -> Iterator[Row]:
    target, path = make.target, make.path
    good = json.dumps(make.chat()).encode()
    json_line = "Content-Type: application/json"

    def post(*lines: str, body: bytes = b"") -> bytes:
        return target.head("POST", path, json_line, *lines) + body

    for id, data in {
        "H07 two lengths": post("Content-Length: 2", "Content-Length: 3", body=b"{}"),
        "H07 negative": post("Content-Length: -1"),
        "H07 signed": post("Content-Length: +2", body=b"{}"),
        "H07 endless": post("Content-Length: " + "9" * 40),
        "H07 length and chunks": post(
            "Content-Length: 2", "Transfer-Encoding: chunked", body=b"2\r\n{}\r\n0\r\n\r\n"
        ),
        "H07 negative chunk": post("Transfer-Encoding: chunked", body=b"-1\r\n"),
        "H07 huge chunk": post("Transfer-Encoding: chunked", body=b"f" * 16 + b"\r\n"),
        "H07 no hex": post("Transfer-Encoding: chunked", body=b"zz\r\n{}\r\n0\r\n\r\n"),
        "H07 two codings": post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        "H04 no Host": b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n",
        "H04 two Hosts": target.head("GET", "/v1/models", "Host: other"),
        "H04 Host with path": b"GET /v1/models HTTP/1.1\r\nHost: a/b?c\r\n\r\n",
        "H04 Host with user": b"GET /v1/models HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "H04 a target": b"GET @google.com HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "H05 17 KiB header": target.head("GET", "/v1/models", "X: " + "x" * 17 * 1024),
        "H05 5 MiB header": target.head("GET", "/v1/models", "X: " + "x" * 5 * 2**20),
        "H05 200 headers": target.head("GET", "/v1/models", *(f"X-{i}: 1" for i in range(200))),
        "H06 long line": target.head("GET", "/" + "x" * 9000),
        "H06 1 MiB query": target.head("GET", "/v1/models?" + "x" * 2**20),
        "H07 bare line feeds": b"GET /v1/models HTTP/1.1\nHost: x\n\n",
        "H07 NUL": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        "H12 TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300) + b"\r\n\r\n",
        "H12 HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "H12 CONNECT": b"CONNECT google.com:443 HTTP/1.1\r\nHost: google.com:443\r\n\r\n",
        "noise": bytes(range(1, 255)) * 4 + b"\r\n\r\n",
        "another version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        "no version": b"GET /\r\n\r\n",
        "empty lines": b"\r\n" * 4000,
    }.items():
        yield make.raw(id, data, statuses=CLOSED)
    tiny = b"".join(b"1\r\na\r\n" for _ in range(70_000)) + b"0\r\n\r\n"
    yield make.raw(
        "H08 70 000 chunks",
        post("Transfer-Encoding: chunked", body=tiny),
        statuses=(413,),
        is_heavy=True,
    )
    chunked = f"{len(good):x}\r\n".encode() + good + b"\r\n0\r\n\r\n"
    yield make.raw("chunks", post("Transfer-Encoding: chunked", body=chunked), statuses=(200,))
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/json, text/plain",
        "",
    ):
        head = target.head("POST", path, f"Content-Type: {kind}", f"Content-Length: {len(good)}")
        yield make.raw(f"H01 {kind!r}", head + good, statuses=(415,))
    for coding in ("gzip", "deflate", "br", "identity, gzip"):
        yield make.body(f"H02 {coding}", good, f"Content-Encoding: {coding}", statuses=(415,))
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "X-Original-URL"):
        yield make.body(f"H15 {name}", good, f"{name}: 169.254.169.254", statuses=(200,))
    for agent in ("%n%s%x", "\x1b[31m", "${jndi:ldap://127.0.0.1/x}", "a" * 8000):
        yield make.body(f"H16 {agent[:12]!r}", good, f"User-Agent: {agent}", statuses=(200, 400))
    for path in (
        "/v1/models/../../etc/passwd",
        "/v1/models/%2e%2e/%2e%2e/etc/passwd",
        "/%00",
        "/v1/models/%ff%fe",
        "/v1/models/" + "x" * 4000,
        "//v1//models//",
        "/docs/../v1/models",
        "/.git/config",
        "/v1/chat/completions/x",
        "/\\..\\x",
    ):
        yield Row(f"path {path[:40]}", path, target.head("GET", path))


def methods(make: Builder, paths: tuple[str, ...]) -> Iterator[Row]:
    for path in (*paths, "/v1/models", "/health", "/metrics", "/nowhere", "/"):
        for method in METHODS:
            yield Row(f"H03 {method} {path}", path, make.target.head(method, path))


def keys(make: Builder, paths: tuple[str, ...]) -> Iterator[Row]:
    """Rows for a server with a key: nothing but the right one opens."""
    target = make.target
    if not target.key:
        return
    wrong = {
        "none": "",
        "prefix": target.key[:-1],
        "suffix": target.key + "x",
        "case": target.key.swapcase(),
        "SQL": "'OR'1'='1",
        "star": "*",
        "1 KiB": "x" * 1024,
    }
    for name, key in wrong.items():
        for path in paths:
            yield Row(
                f"A01 {name} {path}", path, target.post(path, b"{}", key=key), statuses=(401,)
            )
    for line in ("Authorization: Basic eA==", "Authorization: Bearer", "Authorization:\tx"):
        data = target.head("GET", "/v1/models", line, key="")
        yield Row(f"A01 {line!r}", "/v1/models", data, statuses=(400, 401))
    for path in ("/v1/models", "/metrics", "/openapi.json", "/admin"):
        data = target.head("GET", path, "X-Api-Key: " + target.key, key="")
        yield Row(f"A04 {path}", path, data, statuses=(401,))
