"""A server that speaks as much of both hubs' HTTP interfaces as their client libraries use."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REVISION = "a" * 40


class StandIn(BaseHTTPRequestHandler):
    """The parts of both hubs' HTTP interfaces that their libraries use for one model."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    lies: dict[str, bytes]
    asked: list[str]
    ranges: list[tuple[str, int]]
    faults: dict[str, int]
    cuts: dict[str, list[int]]
    holds: dict[str, int]
    trickles: dict[str, int]
    is_held: threading.Event
    may_go_on: threading.Event
    ignores_ranges: bool
    tells_no_hashes: bool
    more_rows: dict[str, int]
    next_statuses: dict[str, list[int]]
    elsewhere: dict[str, str]
    keys: list[str | None]
    url: str

    def do_HEAD(self) -> None:
        self.answer(head=True)

    def do_GET(self) -> None:
        self.answer(head=False)

    def do_CONNECT(self) -> None:
        """As a proxy it lets nobody through."""
        self.send(b"", head=False, status=self.faults.get("proxy", 403))

    def answer(self, *, head: bool) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        if not head:
            self.asked.append(self.path)
        if "/resolve/" not in path and not path.endswith("/repo") and "list" in self.faults:
            self.send(b"{}", head, status=self.faults["list"])
            return
        if re.fullmatch(r"/api/models/[^/]+/[^/]+(/revision/\w+)?", path):
            self.send(json.dumps(self.huggingface_info()).encode(), head)
        elif found := re.fullmatch(r"/[^/]+/[^/]+/resolve/\w+/(.+)", path):
            self.send_file(found[1], head)
        elif re.fullmatch(r"/api/v1/models/[^/]+/[^/]+/repo/files", path):
            self.send(json.dumps(self.modelscope_listing()).encode(), head)
        elif re.fullmatch(r"/api/v1/models/[^/]+/[^/]+/repo", path):
            self.send_file(query["FilePath"][0], head)
        else:
            self.send(b"{}", head, status=404)

    def huggingface_info(self) -> dict[str, Any]:
        rows = []
        for name, data in self.files.items():
            row: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": _blob_id(data)}
            if name.endswith(".safetensors"):
                digest = hashlib.sha256(data).hexdigest()
                row["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 1}
            rows.append(row)
        rows += [{"rfilename": name, "size": size} for name, size in self.more_rows.items()]
        if self.tells_no_hashes:
            rows = [{"rfilename": row["rfilename"], "size": row["size"]} for row in rows]
        return {"id": "x/y", "modelId": "x/y", "sha": REVISION, "siblings": rows, "tags": []}

    def modelscope_listing(self) -> dict[str, Any]:
        rows = [
            {
                "Path": name,
                "Name": name,
                "Size": len(data),
                "Type": "blob",
                "Sha256": hashlib.sha256(data).hexdigest(),
                "Revision": REVISION,
            }
            for name, data in self.files.items()
        ]
        rows += [
            {"Path": name, "Name": name, "Size": size, "Type": "blob", "Revision": REVISION}
            for name, size in self.more_rows.items()
        ]
        if self.tells_no_hashes:
            rows = [{key: row[key] for key in row if key != "Sha256"} for row in rows]
        return {"Code": 200, "Success": True, "Data": {"Files": rows}}

    def send_file(self, name: str, head: bool) -> None:
        if name not in self.files or name in self.faults:
            self.send(b"", head, status=self.faults.get(name, 404))
            return
        if not head:
            self.keys.append(self.headers.get("Authorization"))
        if not head and self.next_statuses.get(name):
            waiting = {"Retry-After": "0"}
            self.send(b"", head, status=self.next_statuses[name].pop(0), **waiting)
            return
        if name in self.elsewhere:
            self.send(b"", head, status=302, Location=self.elsewhere[name] + self.path)
            return
        data = self.lies.get(name, self.files[name])
        status, start = 200, 0
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found and not self.ignores_ranges:
            status, start = 206, int(found[1])
        if not head:
            self.ranges.append((name, start))
        etag = hashlib.sha256(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        end = None
        if not head and self.cuts.get(name):
            end = self.cuts[name].pop(0)
        elif not head and name in self.holds:
            end = self.holds[name]
        elif not head and name in self.trickles:
            end = self.trickles[name]
        self.send(data[start:], head, status=status, end=end, **headers)
        if not head and end is not None:
            if name in self.holds:
                self.is_held.set()
                self.may_go_on.wait(60)
                self.wfile.write(data[start + end :])
            elif name in self.trickles:
                for byte in data[start + end :]:
                    self.wfile.write(bytes([byte]))
                    if self.may_go_on.wait(0.005):
                        break
                self.close_connection = True
            else:
                self.close_connection = True

    def send(
        self, body: bytes, head: bool, *, status: int = 200, end: int | None = None, **headers: str
    ) -> None:
        """Answer with `body`, or with its first `end` bytes, as if the rest were to come."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not head:
            self.wfile.write(body[:end])

    def log_message(self, format: str, *args: Any) -> None: ...


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Quiet(ThreadingHTTPServer):
    """A client that hangs up, as the loser of a race does, is no news."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None: ...


@contextmanager
def stand_in_hub(files: dict[str, bytes]) -> Iterator[type[StandIn]]:
    """Serve `files` as every repository of both hubs.

    What can go wrong: `lies` are sent in the place of files; `faults` are status codes for a file
    or the `list`, or for whoever takes it for a `proxy`; `cuts` end each next answer for a file
    after so many bytes; `holds` stop answers there until `may_go_on`, and set `is_held`; `trickles`
    give a byte now and then from there on. `next_statuses` answer the next questions for a file;
    `elsewhere` sends those for it to another address; `more_rows` are listed, with a size, and not
    there. `keys` are those that came with questions for files.
    """
    state: dict[str, Any] = {
        "files": dict(files),
        "lies": {},
        "asked": [],
        "ranges": [],
        "faults": {},
        "cuts": {},
        "holds": {},
        "trickles": {},
        "is_held": threading.Event(),
        "may_go_on": threading.Event(),
        "ignores_ranges": False,
        "tells_no_hashes": False,
        "more_rows": {},
        "next_statuses": {},
        "elsewhere": {},
        "keys": [],
    }
    handler = type("Hub", (StandIn,), state)
    with _Quiet(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
        serving.start()
        handler.url = f"http://127.0.0.1:{server.server_port}"
        yield handler
        handler.may_go_on.set()
        server.shutdown()
