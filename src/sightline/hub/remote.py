"""The two hubs, through their own client libraries: what a repository holds, and its bytes.

The libraries find the endpoint, the key and the proxies, and speak the protocol. Files are put
together by `sightline.hub.transfer`, because neither library resumes a large file the way one
wants it on a bad line (ADR 0023). They are imported when they are needed: they are heavy, and
listing models needs neither.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from sightline.core.errors import StartupError, shorten

HubName = Literal["huggingface", "modelscope"]
LIST_TIMEOUT_S = 15.0
# Without a byte for so long, a connection is given up and the file goes on with another.
STALL_TIMEOUT_S = 30.0
# The same for one that gives less than this for so long: it would take days.
SLOWEST_BYTES_PER_S, SLOW_S = 1024, 30.0
READ_BYTES = 64 * 1024
KEY_VARIABLES: dict[HubName, str] = {
    "huggingface": "HF_TOKEN",
    "modelscope": "MODELSCOPE_API_TOKEN",
}
# Where people accept licences; a mirror has no accounts.
PAGES: dict[HubName, str] = {
    "huggingface": "https://huggingface.co/",
    "modelscope": "https://modelscope.cn/models/",
}


class HubFailed(StartupError):
    """A hub could not be reached, does not give the model, or wants a key: another hub may do.

    `is_passing` says that another attempt may well succeed, `retry_after_s` from when on;
    `refuses_range` that the hub will not begin there, `is_slow` that hardly anything came.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "hub_failed",
        values: Mapping[str, str | int] | None = None,
        is_passing: bool = False,
        refuses_range: bool = False,
        is_slow: bool = False,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(message, code=code, values=values)
        self.is_passing = is_passing
        self.refuses_range = refuses_range
        self.is_slow = is_slow
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """`sha256` and `git_sha1` (of the blob) are lower-case hex where the hub tells them."""

    name: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files at the top of a repository, at one revision."""

    hub: HubName
    repository: str
    revision: str
    files: tuple[RemoteFile, ...]


class Stream(NamedTuple):
    """The bytes of a file from `start` on, in pieces as they come.

    `length` is how many the answer says they are, if it does.
    """

    start: int
    chunks: Iterator[bytes]
    length: int | None = None


class Hub(Protocol):
    """Raises HubFailed, also while a stream is read. A stream may begin before `offset`, at 0.

    `way` is what is to be looked at when it is not reached: " (HF_ENDPOINT=...)", or nothing.
    """

    name: HubName

    @property
    def way(self) -> str: ...

    def list(self, repository: str) -> Listing: ...

    def open(
        self, listing: Listing, file: RemoteFile, offset: int
    ) -> AbstractContextManager[Stream]: ...


class _Library:
    """What both have in common: whatever a client library raises becomes one line of ours."""

    name: HubName

    def __init__(self, endpoint: str | None = None, told: str = "") -> None:
        """Ask at `endpoint`; `told` are the variables that decide how it is reached."""
        self._endpoint = endpoint
        self.way = f" ({shorten(told, 160)})" if told else ""

    def _asking(self, repository: str, file: str = "") -> AbstractContextManager[None]:
        return _asking(Subject(self.name, repository, file, self.way))

    def _read(self, repository: str, file: str, arriving: Iterator[bytes]) -> Iterator[bytes]:
        subject = Subject(self.name, repository, file, self.way)
        with _asking(subject):
            yield from while_it_flows(arriving, subject)


class HuggingFace(_Library):
    """huggingface.co, or a mirror; HF_TOKEN is its key."""

    name: HubName = "huggingface"

    def list(self, repository: str) -> Listing:
        with self._asking(repository):
            from huggingface_hub import HfApi

            logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
            api = HfApi(endpoint=self._endpoint)
            info = api.model_info(repository, files_metadata=True, timeout=LIST_TIMEOUT_S)
            return Listing(
                hub=self.name,
                repository=repository,
                revision=str(info.sha or "main"),
                files=tuple(
                    RemoteFile(
                        name=file.rfilename,
                        size=int(file.size or 0),
                        sha256=file.lfs.sha256 if file.lfs else None,
                        # Of a large file this is the hash of its pointer.
                        git_sha1=None if file.lfs else _git_sha1(file.blob_id),
                    )
                    for file in info.siblings or ()
                    if "/" not in file.rfilename
                ),
            )

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int) -> Iterator[Stream]:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
            http_stream_backoff,
        )

        repository = listing.repository
        url = hf_hub_url(repository, file.name, revision=listing.revision, endpoint=self._endpoint)
        asked = http_stream_backoff(
            "GET",
            url,
            headers=build_hf_headers() | _range(offset),
            timeout=STALL_TIMEOUT_S,
            max_retries=0,
            retry_on_exceptions=(),
            retry_on_status_codes=(),
            follow_redirects=True,
        )
        with ExitStack() as opened:
            with self._asking(repository, file.name):
                response = opened.enter_context(asked)
                hf_raise_for_status(response)
            start = _start(response.status_code, response.headers.get("Content-Range"))
            chunks = self._read(repository, file.name, response.iter_bytes())
            yield Stream(start, chunks, _length(response.headers))


class ModelScope(_Library):
    """modelscope.cn, or a mirror; MODELSCOPE_API_TOKEN is its key."""

    name: HubName = "modelscope"
    revision = "master"

    def list(self, repository: str) -> Listing:
        with self._asking(repository):
            rows = self._api().list_repo_files(repository, "model", revision=self.revision)
            return Listing(
                hub=self.name,
                repository=repository,
                revision=self.revision,
                files=tuple(
                    RemoteFile(
                        name=row.path, size=int(row.size), sha256=(row.sha256 or "").lower() or None
                    )
                    for row in rows
                    if row.type == "blob" and "/" not in row.path
                ),
            )

    @contextmanager
    def open(self, listing: Listing, file: RemoteFile, offset: int) -> Iterator[Stream]:
        repository = listing.repository
        with self._asking(repository, file.name):
            response = self._api().legacy.download_stream(
                repository, "model", file.name, listing.revision, headers=_range(offset)
            )
        with response:
            start = _start(response.status_code, response.headers.get("Content-Range"))
            chunks = self._read(repository, file.name, _arriving(response))
            yield Stream(start, chunks, _length(response.headers))

    def _api(self) -> Any:
        from modelscope_hub import HubApi

        logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)  # failures are told by us
        return HubApi(endpoint=self._endpoint)


HUBS: dict[HubName, Callable[[str | None, str], Hub]] = {
    "huggingface": HuggingFace,
    "modelscope": ModelScope,
}


def _range(offset: int) -> dict[str, str]:
    # Encoded bytes could not be counted, and so not resumed.
    plain = {"Accept-Encoding": "identity"}
    return plain | {"Range": f"bytes={offset}-"} if offset else plain


def _start(status: int, content_range: str | None) -> int:
    """Return where an answer begins; a server may ignore that a range was asked for."""
    if status != 206 or content_range is None:
        return 0
    first = content_range.removeprefix("bytes").strip().partition("-")[0]
    return int(first) if first.isdigit() else 0


def _length(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes an answer says it has; of encoded ones nothing is known."""
    told = headers.get("Content-Length", "")
    is_plain = headers.get("Content-Encoding", "identity") == "identity"
    return int(told) if is_plain and re.fullmatch(r"[0-9]{1,18}", told) else None


def _git_sha1(blob_id: str | None) -> str | None:
    is_hash = blob_id is not None and len(blob_id) == 40 and set(blob_id) <= set("0123456789abcdef")
    return blob_id if is_hash else None


class Subject(NamedTuple):
    """What a hub is asked for, and by which way; see `Hub`."""

    hub: HubName
    repository: str
    file: str
    way: str

    def __str__(self) -> str:
        name = f"{self.repository}/{self.file}" if self.file else self.repository
        return f"{self.hub}: " + shorten(name, 120)


def _arriving(response: Any) -> Iterator[bytes]:
    """Yield what requests gets as it comes, not when there is a whole piece of it."""
    read = getattr(response.raw, "read1", None)
    if read is None:  # an urllib3 before 2
        yield from response.iter_content(READ_BYTES // 16)
        return
    while data := read(READ_BYTES, decode_content=True):
        yield data


def while_it_flows(
    arriving: Iterator[bytes], subject: Subject, clock: Callable[[], float] = time.monotonic
) -> Iterator[bytes]:
    """Yield what arrives, until less than `SLOWEST_BYTES_PER_S` have come for `SLOW_S`.

    Raises HubFailed then. Only the time of waiting counts, not that of whoever takes the bytes.
    """
    num_bytes, waited_s = 0, 0.0
    while True:
        began = clock()
        data = next(arriving, b"")
        waited_s += clock() - began
        if not data:
            return
        num_bytes += len(data)
        yield data
        if waited_s >= SLOW_S:
            if num_bytes < SLOWEST_BYTES_PER_S * waited_s:
                raise _too_slow(subject, num_bytes / waited_s)
            num_bytes, waited_s = 0, 0.0


def _too_slow(subject: Subject, bytes_per_s: float) -> HubFailed:
    values: dict[str, str | int] = {
        "subject": str(subject),
        "way": subject.way,
        "rate": round(bytes_per_s),
        "seconds": round(SLOW_S),
    }
    return HubFailed(
        "{subject} comes too slowly{way}: {rate} bytes a second for {seconds} s.".format(**values),
        code="hub_slow",
        values=values,
        is_passing=True,
        is_slow=True,
    )


@contextmanager
def _asking(subject: Subject) -> Iterator[None]:
    """Whatever a client library raises inside becomes one line that names the hub."""
    try:
        yield
    except (StartupError, KeyboardInterrupt, GeneratorExit):
        raise
    except Exception as error:
        raise _failed(subject, error) from None


def _failed(asked: Subject, error: Exception) -> HubFailed:
    hub, repository, subject, way = asked.hub, asked.repository, str(asked), asked.way
    status = getattr(getattr(error, "response", None), "status_code", None)
    status = status or getattr(error, "status_code", None)
    if status in (401, 403):
        values: dict[str, str | int] = {
            "subject": subject,
            "status": status,
            "variable": KEY_VARIABLES[hub],
            "page": PAGES[hub] + shorten(repository, 100),
        }
        if _header(error, "X-Error-Code") == "GatedRepo":
            return HubFailed(
                "{subject} is behind a licence ({status}); accept it at {page} and set {variable} "
                "to a key of that account.".format(**values),
                code="hub_gated",
                values=values,
            )
        return HubFailed(
            "{subject} is not there, or needs a key that may read it ({status}); set {variable}, "
            "and accept the licence at {page} if there is one.".format(**values),
            code="hub_wants_key",
            values=values,
        )
    refusal = _PROXY_REFUSAL.search(str(error)) if "roxy" in repr(error) else None
    if status == 407 or refusal is not None:
        answer = "407" if refusal is None else refusal[1]
        return HubFailed(
            f"{subject} cannot be reached{way}: the proxy answers {answer}.",
            code="hub_proxy",
            values={"subject": subject, "way": way, "status": answer},
        )
    if status == 404:
        return HubFailed(
            f"{subject} is not there (404).", code="hub_missing", values={"subject": subject}
        )
    if status is not None:
        wait = _header(error, "Retry-After")
        return HubFailed(
            f"{subject}: the hub answers {status}.",
            code="hub_answers",
            values={"subject": subject, "status": status},
            is_passing=status in _PASSING,
            refuses_range=status == 416,
            retry_after_s=float(wait) if re.fullmatch(r"[0-9]{1,6}", wait) else 0.0,
        )
    # The library would quote the key, or the letter that it stumbled on.
    if isinstance(error, UnicodeEncodeError) or "header value" in str(error):
        return HubFailed(
            f"{subject} was not asked for: {KEY_VARIABLES[hub]} holds characters that no key has; "
            "set it anew.",
            code="hub_key_broken",
            values={"subject": subject, "variable": KEY_VARIABLES[hub]},
        )
    if isinstance(error, _NOT_UNDERSTOOD):
        return HubFailed(
            f"{subject}: the answer is not what a hub says{way}; is a login page or a proxy in "
            "between?",
            code="hub_not_understood",
            values={"subject": subject, "way": way},
            is_passing=True,
        )
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return HubFailed(
            f"{subject} cannot be reached{way}: the certificate is not trusted. A login page, or a "
            "proxy that opens TLS, is in between; of such a proxy SSL_CERT_FILE and "
            "REQUESTS_CA_BUNDLE name the certificates.",
            code="hub_certificate",
            values={"subject": subject, "way": way},
        )
    # Libraries wrap the system's own words in many of theirs.
    found = _SYSTEM_ERROR.search(str(error))
    lines: Sequence[str] = str(error).strip().splitlines() or [type(error).__name__]
    reason = found[1].strip() if found else shorten(lines[0], 160).rstrip(".")
    return HubFailed(
        f"{subject} cannot be reached{way}: {reason}.",
        code="hub_unreachable",
        values={"subject": subject, "way": way, "reason": reason},
        is_passing=True,
    )


def _header(error: Exception, name: str) -> str:
    return str(getattr(getattr(error, "response", None), "headers", {}).get(name, ""))


_PROXY_REFUSAL = re.compile(r"(?:^|Tunnel connection failed: )([45]\d\d)\b")
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([\w ]{3,80})")
# What the libraries meet in an answer that is no JSON, or other JSON than they know.
_NOT_UNDERSTOOD = (json.JSONDecodeError, RecursionError, AttributeError, LookupError, TypeError)
_PASSING = (408, 416, 429, 500, 502, 503, 504)
