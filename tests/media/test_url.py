"""The one URL parser."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.core.errors import RequestError
from sightline.core.limits import Limits
from sightline.media.url import WebUrl, follow, parse_url

LIMITS = Limits()

REFUSED = [
    *("http://good\\@127.0.0.1/", "http://good@127.0.0.1/", "http://127.0.0.1#@good/"),
    *("http://127.0.0.1?@good/", "http://user:pw@good/", "http://go\tod/", "http://good/a b"),
    *(
        "http://good/\n",
        " http://good/",
        "http://good/\x00",
        "http://good/\x7f",
        "http://good/\u3000",
    ),
    *("http://", "http:///x", "http:good", "http:/good", "https//good", "//good/x", "good/x"),
    *(
        "http://good:65536/",
        "http://good:0/",
        "http://good:-1/",
        "http://good:8x/",
        "http://a:1:2/",
    ),
    *("http://[::1", "http://::1/", "http://[fe80::1%25eth0]/", "http://[::1]x/", "http://[good]/"),
    *("http://a..b/", "http://.a/", "http://-a.b/", "http://%31/", "http://a%2eb/", "http://a*b/"),
    *(
        "http://" + "a" * 64 + "/",
        "http://" + "a." * 127 + "b/",
        "http://\u2488com/",
        "http://\u200d/",
    ),
    *("ftp://good/", "gopher://good/", "file:///etc/passwd", "javascript:alert(1)", ""),
]


@pytest.mark.parametrize("text", REFUSED)
def test_whatever_parsers_disagree_on_is_refused(text):
    with pytest.raises(RequestError) as caught:
        parse_url(text, LIMITS)
    assert caught.value.code == "invalid_image_url"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://good/x.png", WebUrl(scheme="http", host="good", port=80, target="/x.png")),
        (
            "HTTPS://GOOD.Example.",
            WebUrl(scheme="https", host="good.example", port=443, target="/"),
        ),
        ("http://good:8000?a=b@c", None),
        (
            "http://good:8000/?a=b@c#f",
            WebUrl(scheme="http", host="good", port=8000, target="/?a=b@c"),
        ),
        (
            "http://[2606:4700:0::1]:81/",
            WebUrl(scheme="http", host="2606:4700::1", port=81, target="/"),
        ),
        ("http://good/@me/a%20b", WebUrl(scheme="http", host="good", port=80, target="/@me/a%20b")),
        (
            "http://bücher.example/猫.png",
            WebUrl(
                scheme="http",
                host="xn--bcher-kva.example",
                port=80,
                target="/%E7%8C%AB.png",
            ),
        ),
        ("http://１２７.0.0.1/", WebUrl(scheme="http", host="127.0.0.1", port=80, target="/")),
        ("http://minio_1/x", WebUrl(scheme="http", host="minio_1", port=80, target="/x")),
    ],
)
def test_urls_are_taken_apart(text, url):
    if url is None:
        with pytest.raises(RequestError):
            parse_url(text, LIMITS)
    else:
        assert parse_url(text, LIMITS) == url


def test_the_limit_on_bytes_is_inclusive_and_counts_utf8():
    longest = "http://good/" + "a" * (LIMITS.max_url_bytes - 12)
    parse_url(longest, LIMITS)
    for text in (longest + "a", longest[:-1] + "猫", "http://good/" + "a" * 2**20):
        with pytest.raises(RequestError, match=r"limit 8192"):
            parse_url(text, LIMITS)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/y", "http://good:81/y"),
        ("y?q", "http://good:81/a/y?q"),
        ("../y", "http://good:81/y"),
        ("//other/y", "http://other/y"),
        ("https://other/y", "https://other/y"),
        ("?q", "http://good:81/a/b?q"),
    ],
)
def test_redirects_may_be_relative(location, target):
    base = parse_url("http://good:81/a/b?c", LIMITS)
    assert follow(base, location, LIMITS) == parse_url(target, LIMITS)


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://good/", "/\\evil", "http://a@b/", "/a\tb"]
)
def test_redirects_are_parsed_as_strictly(location):
    with pytest.raises(RequestError) as caught:
        follow(parse_url("http://good/", LIMITS), location, LIMITS)
    assert caught.value.code == "invalid_image_url"


@given(st.text(max_size=60), st.sampled_from(["", "http://", "https://a", "http://[", "http://a/"]))
def test_any_text_is_a_url_or_refused(text, prefix):
    url = error = None
    try:
        url = parse_url(prefix + text, LIMITS)
    except RequestError as refused:
        error = refused
    if url is None:
        assert error.code == "invalid_image_url"
        assert len(error.message) <= 300
    else:
        assert url.target.isascii()
        assert url.target.startswith(("/", "?"))
        assert all(0x21 <= ord(character) < 0x7F for character in url.target + url.authority)
        assert parse_url(url.origin + url.target, LIMITS) == url
