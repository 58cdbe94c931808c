"""The fetcher against servers that lie, stall, drip, redirect and point to private addresses."""

import asyncio
import datetime
import logging
import ssl
import time

import picture_files as files
import pytest
import trustme
from pretend_internet import PUBLIC_ADDRESS, Internet, answer, redirect

from sightline.core.errors import RequestError, StartupError
from sightline.core.limits import Limits
from sightline.media.fetch import Allowance, AllowedHost, Fetcher
from sightline.media.url import parse_url

PATIENT = Limits(fetch_timeout_s=60)
HASTY = Limits(fetch_timeout_s=1)


def fetch(
    internet: Internet,
    *urls: str,
    limits: Limits = PATIENT,
    allowed: tuple[str, ...] = (),
    forbidden: tuple[tuple[str, int], ...] = (),
    server_tls: ssl.SSLContext | None = None,
    tls: ssl.SSLContext | None = None,
    real_dns: bool = False,
) -> list[bytes]:
    """Fetch all `urls` as one request would, on a loop of its own."""

    async def run() -> list[bytes]:
        async with internet.up(server_tls):
            fetcher = Fetcher(
                limits,
                allowed_hosts=[AllowedHost.parse(text) for text in allowed],
                forbidden=forbidden,
                resolve=None if real_dns else internet.resolve,
                dial=internet.dial,
                tls=tls,
            )
            allowance = Allowance(limits)
            wanted = [fetcher.fetch(parse_url(url, limits), allowance) for url in urls]
            return [download.data for download in await asyncio.gather(*wanted)]

    return asyncio.run(run())


def refusal(internet: Internet, *urls: str, **options) -> RequestError:
    with pytest.raises(RequestError) as caught:
        fetch(internet, *urls, **options)
    assert len(caught.value.message) <= 300
    return caught.value


@pytest.fixture
def internet() -> Internet:
    internet = Internet()
    internet.pages["/cat.png"] = answer(files.PNG)
    return internet


def test_a_public_picture_is_fetched(internet):
    assert fetch(internet, "http://pictures.test/cat.png") == [files.PNG]
    assert internet.dialled == [(PUBLIC_ADDRESS, 80)]
    head = internet.requests[0].decode().lower()
    assert head.startswith("get /cat.png http/1.1\r\n")
    assert "\r\nhost: pictures.test\r\n" in head
    assert "\r\naccept-encoding: identity\r\n" in head
    assert "\r\ncookie" not in head


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "[::]", "0.0.0.0", "10.0.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "240.0.0.1", "224.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]"),
        *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "１２７.0.0.1", "127.0.0.1."),
    ],
)
def test_section_5_fetching_private_addresses_are_blocked_in_every_form(internet, host):
    error = refusal(internet, f"http://{host}/cat.png")
    assert error.code == "image_url_blocked"
    assert "--allow-media-host" in error.message
    assert (internet.dialled, internet.canary_hits) == ([], 0)


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "2130706433", "0x7f000001", "127.1", "0"]
)
def test_the_systems_own_spellings_of_loopback_are_blocked(internet, host):
    assert refusal(internet, f"http://{host}/", real_dns=True).code == "image_url_blocked"
    assert internet.dialled == []


def test_one_private_address_among_public_ones_blocks_the_host(internet):
    internet.hosts["mixed.test"] = [[PUBLIC_ADDRESS, "10.0.0.1"]]
    error = refusal(internet, "http://mixed.test/cat.png")
    assert error.message == (
        "Host 'mixed.test' is not public; start the server with --allow-media-host mixed.test "
        "to permit it."
    )
    assert internet.dialled == []


def test_section_5_fetching_a_rebound_name_is_resolved_once_and_dialled_where_it_was_judged(
    internet,
):
    internet.hosts["rebound.test"] = [[PUBLIC_ADDRESS], ["127.0.0.1"]]
    assert fetch(internet, "http://rebound.test/cat.png") == [files.PNG]
    assert internet.lookups == ["rebound.test"]
    assert internet.dialled == [(PUBLIC_ADDRESS, 80)]


def test_section_5_fetching_every_hop_is_resolved_and_judged_again(internet):
    internet.hosts["rebound.test"] = [[PUBLIC_ADDRESS], ["127.0.0.1"]]
    internet.pages["/hop"] = redirect("/cat.png")
    assert refusal(internet, "http://rebound.test/hop").code == "image_url_blocked"
    assert internet.canary_hits == 0


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://127.0.0.1/", "image_url_blocked"),
        ("//127.0.0.1", "image_url_blocked"),
        ("http://[::ffff:127.0.0.1]/", "image_url_blocked"),
        ("http://pictures.test:22/", "image_url_blocked"),
        ("file:///etc/passwd", "invalid_image_url"),
        ("http://a@pictures.test/", "invalid_image_url"),
        ("/hop", "failed_to_download_image"),
        ("", "failed_to_download_image"),
    ],
)
def test_a_redirect_leads_nowhere_that_a_url_may_not(internet, location, code):
    internet.pages["/hop"] = redirect(location)
    assert refusal(internet, "http://pictures.test/hop").code == code
    assert internet.canary_hits == 0


@pytest.mark.parametrize(
    "location", ["/cat.png", "cat.png", "//other.test/cat.png", "http://a.test/cat.png"]
)
def test_redirects_to_public_pictures_are_followed(internet, location):
    internet.pages["/hop"] = redirect(location)
    assert fetch(internet, "http://pictures.test/hop") == [files.PNG]


def test_section_5_limits_the_number_of_redirects(internet):
    for i in range(4):
        internet.pages[f"/{i}"] = redirect(f"/{i + 1}")
    internet.pages["/4"] = answer(files.PNG)
    assert fetch(internet, "http://pictures.test/1") == [files.PNG]
    error = refusal(internet, "http://pictures.test/0")
    assert error.message == "Download failed: more than 3 redirects."


def test_a_redirect_without_a_target_fails(internet):
    internet.pages["/hop"] = answer(status="301 Moved Permanently")
    assert refusal(internet, "http://pictures.test/hop").code == "failed_to_download_image"


@pytest.mark.parametrize("port", [22, 6379, 8888, 65535])
def test_other_ports_are_blocked_before_any_lookup(internet, port):
    error = refusal(internet, f"http://pictures.test:{port}/cat.png")
    assert error.code == "image_url_blocked"
    assert f"--allow-media-host pictures.test:{port} " in error.message
    assert internet.lookups == []


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("nas.test", "http://nas.test/cat.png"),
        ("nas.test", "http://NAS.test.:9000/cat.png"),
        ("NAS.test.:9000", "http://nas.test:9000/cat.png"),
        ("10.0.0.1", "http://10.0.0.1/cat.png"),
        ("[::1]:9000", "http://[::1]:9000/cat.png"),
        ("::1", "http://[0:0::1]:9000/cat.png"),
    ],
)
def test_section_5_fetching_an_allowed_host_may_be_private(internet, entry, url):
    internet.hosts["nas.test"] = [["10.0.0.1"]]
    with pytest.raises(RequestError) as caught:  # let through, and the canary takes the call
        fetch(internet, url, allowed=(entry,))
    assert caught.value.code == "failed_to_download_image"
    assert internet.canary_hits == 1


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("nas.test", "http://sub.nas.test/cat.png"),
        ("sub.nas.test", "http://nas.test/cat.png"),
        ("nas.test:9000", "http://nas.test/cat.png"),
        ("nas.test:9000", "http://nas.test:9001/cat.png"),
        ("127.0.0.1", "http://127.0.0.2/cat.png"),
    ],
)
def test_allowing_a_host_allows_no_other(internet, entry, url):
    internet.hosts["nas.test"] = internet.hosts["sub.nas.test"] = [["10.0.0.1"]]
    assert refusal(internet, url, allowed=(entry,)).code == "image_url_blocked"
    assert internet.canary_hits == 0


@pytest.mark.parametrize(
    "entry", ["", "a b", "http://nas.test", "nas.test:x", "nas.test/x", "*.test"]
)
def test_an_entry_that_is_no_host_stops_the_server(entry):
    with pytest.raises(StartupError):
        AllowedHost.parse(entry)


@pytest.mark.parametrize(
    ("listener", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8888/v1/models"),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]:8888/"),
        ("127.0.0.1", "http://0.0.0.0:8888/"),
        ("0.0.0.0", "http://127.0.0.7:8888/"),
        ("::", "http://[::1]:8888/"),
        ("127.0.0.1", "http://me.test:8888/"),
    ],
)
def test_our_own_listeners_are_never_dialled_even_when_allowed(internet, listener, url):
    internet.hosts["me.test"] = [["127.0.0.1"]]
    allowed = ("127.0.0.1", "127.0.0.7", "0.0.0.0", "::1", "::ffff:7f00:1", "me.test")
    error = refusal(internet, url, allowed=allowed, forbidden=((listener, 8888),))
    assert error.code == "image_url_blocked"
    assert internet.dialled == []


def test_another_port_of_our_own_address_may_be_allowed(internet):
    refusal(
        internet, "http://127.0.0.1:9/", allowed=("127.0.0.1",), forbidden=(("127.0.0.1", 8888),)
    )
    assert internet.canary_hits == 1


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 401, 404, 429, 500, 503])
def test_an_upstream_status_is_reported_and_not_retried(internet, status):
    internet.pages["/x"] = answer(status=f"{status} Whatever")
    error = refusal(internet, "http://pictures.test/x")
    assert error.message == f"Download failed: upstream status {status}."
    assert len(internet.dialled) == 1


def test_an_unknown_host_fails(internet):
    internet.hosts["gone.test"] = [[]]
    assert (
        refusal(internet, "http://gone.test/").message
        == "Download failed: host 'gone.test' is not known."
    )


def test_a_connection_that_is_refused_is_tried_once_more(internet):
    internet.hosts["flaky.test"] = [["93.184.216.35", "93.184.216.36", "2606:2800::1"]]
    internet.refusing = {"93.184.216.35"}
    assert fetch(internet, "http://flaky.test/cat.png") == [files.PNG]
    assert [address for address, _ in internet.dialled] == ["93.184.216.35", "2606:2800::1"]


def test_it_is_tried_once_more_only(internet):
    internet.refusing = {PUBLIC_ADDRESS}
    error = refusal(internet, "http://pictures.test/cat.png")
    assert error.message == "Download failed: cannot connect to 'pictures.test'."
    assert len(internet.dialled) == 2


def test_an_honest_length_over_the_limit_is_refused_before_the_body(internet):
    async def honest(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 22020096\r\n\r\n")
        await reader.read()

    internet.pages["/x"] = honest
    assert refusal(internet, "http://pictures.test/x").message == "21 MiB; limit 20 MiB."


def test_an_endless_body_is_cut_at_the_limit(internet):
    sent = 0

    async def endless(reader, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    internet.pages["/x"] = endless
    limits = Limits(max_image_bytes=1 << 20, fetch_timeout_s=60)
    assert refusal(internet, "http://pictures.test/x", limits=limits).code == "image_file_too_large"
    assert sent < 16 << 20  # the limit, and what fits into the buffers of the sockets


def test_section_5_limits_of_one_file_are_inclusive(internet):
    internet.pages["/x"] = answer(bytes(1000))
    limits = Limits(max_image_bytes=1000, fetch_timeout_s=60)
    assert fetch(internet, "http://pictures.test/x", limits=limits) == [bytes(1000)]


def test_the_files_of_one_request_have_a_limit_together(internet):
    limits = Limits(max_fetch_bytes=2 * len(files.PNG), fetch_timeout_s=60)
    urls = [f"http://pictures.test/cat.png?{i}" for i in range(3)]
    assert len(fetch(internet, *urls[:2], limits=limits)) == 2
    assert refusal(internet, *urls, limits=limits).code == "image_file_too_large"


async def drip(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_headers(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def say_nothing(reader, writer):
    await reader.read()


@pytest.mark.parametrize("page", [drip, drip_headers, say_nothing])
def test_slow_answers_end_with_the_deadline_of_the_whole(internet, page):
    internet.pages["/x"] = page
    start = time.monotonic()
    error = refusal(internet, "http://pictures.test/x", limits=HASTY)
    assert error.code == "failed_to_download_image"
    assert error.message in (
        "Download failed: timed out after 1 s.",
        "Download failed: more than 64 headers.",
    )
    assert time.monotonic() - start < 10


def test_a_lookup_that_hangs_ends_with_the_deadline_too(internet):
    async def hang(host, port):
        await asyncio.sleep(3600)

    internet.resolve = hang
    error = refusal(internet, "http://pictures.test/x", limits=HASTY)
    assert error.message == "Download failed: timed out after 1 s."


def test_a_handshake_that_never_ends_is_given_up(internet):
    internet.pages["/x"] = say_nothing
    error = refusal(
        internet, "https://pictures.test/x", limits=HASTY, tls=ssl.create_default_context()
    )
    assert error.code == "failed_to_download_image"


async def reset(reader, writer):
    writer.transport.abort()


async def too_short(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")


async def no_http(reader, writer):
    writer.write(b"220 mail.test ESMTP\r\n")


async def many_headers(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 65 + b"\r\n")


async def long_header(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n")


async def long_header_in_one_read(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 15_000 + b"\r\n")
    writer.write(b"Content-Length: %d\r\nB: " % len(files.PNG) + b"b" * 2_000 + b"\r\n\r\n")
    writer.write(files.PNG)


async def endless_headers(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write((b"A: " + b"b" * 1000 + b"\r\n") * 30)
        await writer.drain()


async def endless_continue(reader, writer):
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000)
        await writer.drain()


async def endless_length(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")


async def switching(reader, writer):
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")


async def crumbs(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n" * 10_000)
        await writer.drain()


async def two_lengths(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello")


@pytest.mark.parametrize(
    "page",
    [
        *(reset, too_short, no_http, many_headers, long_header, endless_headers),
        long_header_in_one_read,
        *(
            endless_continue,
            two_lengths,
            endless_length,
            switching,
            crumbs,
            answer(b"x", headers=["Content-Encoding: gzip"]),
        ),
    ],
)
def test_answers_that_are_broken_or_not_as_asked_fail(internet, page):
    internet.pages["/x"] = page
    error = refusal(internet, "http://pictures.test/x")
    assert error.code == "failed_to_download_image"
    assert error.message.startswith("Download failed: ")


def test_chunked_answers_are_read(internet):
    async def chunked(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(files.PNG), 50):
            piece = files.PNG[i : i + 50]
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        writer.write(b"0\r\n\r\n")

    internet.pages["/x"] = chunked
    assert fetch(internet, "http://pictures.test/x") == [files.PNG]


def certificates(*names: str, expired: bool = False) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS context, and one for clients that trust its issuer."""
    authority = trustme.CA()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    issued = authority.issue_cert(*names, not_after=yesterday if expired else None)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def test_a_picture_comes_over_tls_under_the_name_that_was_asked_for(internet):
    server, client = certificates("pictures.test")
    urls = ["https://pictures.test/cat.png"]
    assert fetch(internet, *urls, server_tls=server, tls=client) == [files.PNG]
    assert internet.dialled == [(PUBLIC_ADDRESS, 443)]


@pytest.mark.parametrize("flaw", ["unknown issuer", "other host", "expired"])
def test_a_certificate_that_is_not_valid_fails(internet, flaw):
    name = "other.test" if flaw == "other host" else "pictures.test"
    server, client = certificates(name, expired=flaw == "expired")
    error = refusal(
        internet,
        "https://pictures.test/cat.png",
        server_tls=server,
        tls=None if flaw == "unknown issuer" else client,
    )
    assert error.message == "Download failed: the TLS certificate is not valid."
    assert internet.requests == []


def test_no_redirect_leads_from_https_to_http(internet):
    server, client = certificates("pictures.test")
    internet.pages["/hop"] = redirect("http://pictures.test/cat.png")
    error = refusal(internet, "https://pictures.test/hop", server_tls=server, tls=client)
    assert error.message == "Download failed: a redirect from https to http."


def test_section_5_fetching_proxies_of_the_environment_are_ignored(internet, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(internet, "http://pictures.test/cat.png") == [files.PNG]
    assert internet.dialled == [(PUBLIC_ADDRESS, 80)]


def test_a_query_is_sent_but_never_told(internet, caplog):
    caplog.set_level(logging.DEBUG)
    assert fetch(internet, "http://pictures.test/cat.png?token=s3cret") == [files.PNG]
    assert b"token=s3cret" in internet.requests[0]
    errors = [
        refusal(internet, f"http://pictures.test{port}/{path}?token=s3cret")
        for port, path in ((":81", "cat.png"), ("", "missing.png"))
    ]
    assert "s3cret" not in caplog.text + "".join(error.message for error in errors)
    assert "s3cret" not in repr(parse_url("http://pictures.test/?token=s3cret", PATIENT))


def test_at_most_so_many_fetches_run_at_once(internet):
    limits = Limits(max_fetches=4, fetch_timeout_s=60)
    urls = [f"http://pictures.test/cat.png?{i}" for i in range(40)]
    assert fetch(internet, *urls, limits=limits) == [files.PNG] * 40
    assert internet.max_open <= 5  # one may not have noticed yet that its caller has left


def test_a_cancelled_fetch_leaves_no_connection(internet):
    async def run() -> None:
        asked = asyncio.Event()

        async def note_and_say_nothing(reader, writer):
            asked.set()
            await reader.read()

        internet.pages["/x"] = note_and_say_nothing
        async with internet.up():
            fetcher = Fetcher(PATIENT, resolve=internet.resolve, dial=internet.dial)
            url = parse_url("http://pictures.test/x", PATIENT)
            task = asyncio.create_task(fetcher.fetch(url, Allowance(PATIENT)))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    assert internet.num_open == 0
