"""The loader as the service uses it: many parts, one deadline, whom to blame, what is kept."""

import asyncio
import os
from dataclasses import replace

import picture_files as files
import pytest
from picture_files import data_url
from pretend_internet import Internet, answer

from sightline.core.chat import ImagePart, InlineText
from sightline.core.errors import RequestError, StartupError
from sightline.core.image_policy import SquareImagePolicy
from sightline.core.limits import Limits
from sightline.media.fetch import Fetcher
from sightline.media.known_base64 import KnownBase64
from sightline.media.loader import MediaLoader, MediaOptions

POLICY = SquareImagePolicy(size=32, num_tokens=18)
PATIENT = Limits(fetch_timeout_s=60, decode_timeout_s=60)


def part(source: str, number: int = 0) -> ImagePart:
    return ImagePart(source=source, param=f"messages[0].content[{number}].image_url")


def parts(*sources: str) -> list[ImagePart]:
    return [part(source, number) for number, source in enumerate(sources)]


class CountingPool:
    """Counts what the loader gives to its pool of workers."""

    def __init__(self, loader: MediaLoader) -> None:
        self.num_decoded = 0
        self._decode = loader._pool.decode
        loader._pool.decode = self.decode  # type: ignore[method-assign]

    async def decode(self, data, target_size):
        self.num_decoded += 1
        return await self._decode(data, target_size)


@pytest.fixture
def loading(album, monkeypatch):
    """Return a loader with fresh options on the workers that are already running."""

    def make(options: MediaOptions | None = None, limits: Limits = PATIENT, **others):
        loader = MediaLoader(limits, options, **others)
        monkeypatch.setattr(loader, "_pool", album.loader._pool)
        monkeypatch.setattr(loader._pool, "decode", loader._pool.decode)
        return loader

    return make


def test_images_come_back_in_the_order_of_their_parts(album, loading):
    sources = [data_url(data) for data in (files.PNG, files.gif_frames(1), files.PNG, files.BMP)]
    images = album.runner.run(loading().load(parts(*sources), POLICY))
    assert [image.original_width for image in images] == [64, 16, 64, 64]
    assert {(image.width, image.height, len(image.pixels)) for image in images} == {(32, 32, 3072)}


def test_equal_images_of_one_request_are_decoded_once(album, loading):
    loader = loading(MediaOptions(cache_bytes=0))
    pool = CountingPool(loader)
    other_spelling = data_url(files.PNG, "image/x")
    sources = [data_url(files.PNG)] * 8 + [other_spelling] * 8
    images = album.runner.run(loader.load(parts(*sources), POLICY))
    assert pool.num_decoded == 1
    assert len({id(image) for image in images}) == 1


def test_section_5_cache_key_a_second_question_costs_no_decode_but_another_size_or_tenant_does(
    album, loading
):
    loader = loading()
    pool = CountingPool(loader)
    picture = parts(data_url(files.PNG))
    first = album.runner.run(loader.load(picture, POLICY))
    assert album.runner.run(loader.load(picture, POLICY)) == first
    assert pool.num_decoded == 1
    album.runner.run(loader.load(picture, POLICY, cache_salt=b"another tenant"))
    assert pool.num_decoded == 2
    album.runner.run(loader.load(picture, SquareImagePolicy(size=16, num_tokens=18)))
    assert pool.num_decoded == 3


@pytest.fixture
def long_text() -> str:
    """The base64 of a picture that is long enough to be remembered."""
    return data_url(files.padded_png(100_000)).partition(",")[2]


def inline(known: KnownBase64, text: str, digits: bytes) -> ImagePart:
    """A part as the server makes it of a text that is known; `digits` are those that it brings."""
    digest = known.digest(text.encode(), b"")
    read = InlineText(pieces=(memoryview(digits),), digest=digest)
    return replace(part("data:image/png;base64,iVBO"), inline=read)


def test_the_digits_of_a_picture_that_is_known_are_not_looked_at(album, loading, long_text):
    known = KnownBase64()
    loader = loading(known=known)
    (first,) = album.runner.run(loader.load(parts(f"data:image/png;base64,{long_text}"), POLICY))
    again = inline(known, long_text, b"these are no digits")
    assert album.runner.run(loader.load([again], POLICY)) == [first]


def test_a_known_picture_that_is_not_kept_any_more_is_read_again(album, loading, long_text):
    known = KnownBase64()
    loader = loading(MediaOptions(cache_bytes=0), known=known)
    (first,) = album.runner.run(loader.load(parts(f"data:image/png;base64,{long_text}"), POLICY))
    pool = CountingPool(loader)
    again = inline(known, long_text, long_text.encode())
    assert album.runner.run(loader.load([again, again], POLICY)) == [first, first]
    assert pool.num_decoded == 1


@pytest.mark.parametrize(
    "spelling",
    [
        lambda text: text[:100] + "\n" + text[100:],
        lambda text: text.rstrip("="),
        lambda text: text.replace("=", "%3D"),
    ],
    ids=["white space", "no padding", "escapes"],
)
def test_only_a_text_of_nothing_but_digits_is_remembered(album, loading, long_text, spelling):
    known = KnownBase64()
    text = spelling(long_text)
    assert text != long_text
    album.runner.run(loading(known=known).load(parts(f"data:image/png;base64,{text}"), POLICY))
    assert known.file_of(known.digest(text.encode(), b"")) is None


def test_a_file_that_is_no_picture_is_not_remembered(album, loading):
    known = KnownBase64()
    text = "A" * 100_000
    with pytest.raises(RequestError):
        album.runner.run(loading(known=known).load(parts(f"data:image/png;base64,{text}"), POLICY))
    assert known.file_of(known.digest(text.encode(), b"")) is None


def test_section_5_cache_key_depends_on_the_size_that_was_asked_for(album, loading):
    loader = loading()
    small, large = (
        album.runner.run(
            loader.load(parts(data_url(files.PNG)), SquareImagePolicy(size=size, num_tokens=1))
        )[0]
        for size in (16, 32)
    )
    assert small.digest != large.digest


@pytest.mark.parametrize(
    "bad", ["nonsense", data_url(b"x"), data_url(files.PNG[:20]), "data:;base64,!"]
)
def test_the_part_to_blame_is_named(album, loading, bad):
    with pytest.raises(RequestError) as caught:
        album.runner.run(loading().load(parts(data_url(files.PNG), bad), POLICY))
    assert caught.value.param == "messages[0].content[1].image_url"


def test_section_5_limits_more_images_are_refused(album, loading):
    loader = loading(limits=Limits(max_images=2, decode_timeout_s=60))
    sources = [data_url(files.PNG)] * 3
    assert len(album.runner.run(loader.load(parts(*sources[:2]), POLICY))) == 2
    with pytest.raises(RequestError) as caught:
        album.runner.run(loader.load(parts(*sources), POLICY))
    assert caught.value.code == "too_many_images"
    assert caught.value.message == "3 images given, at most 2."
    assert caught.value.param == "messages[0].content[2].image_url"


def test_no_images_are_no_work(album, loading):
    assert album.runner.run(loading().load([], POLICY)) == []


def test_fetching_can_be_switched_off(album, loading):
    loader = loading(MediaOptions(allow_fetch=False))
    with pytest.raises(RequestError) as caught:
        album.runner.run(loader.load(parts("http://pictures.test/cat.png"), POLICY))
    assert caught.value.code == "image_url_blocked"


def test_section_5_limits_fetched_images_share_one_deadline_and_equal_urls_one_fetch(
    album, loading
):
    internet = Internet()
    internet.pages["/cat.png"] = answer(files.PNG)

    async def run():
        async with internet.up():
            fetcher = Fetcher(PATIENT, resolve=internet.resolve, dial=internet.dial)
            loader = loading(fetcher=fetcher)
            url = "http://pictures.test/cat.png"
            return await loader.load(parts(url, url, data_url(files.PNG)), POLICY)

    images = album.runner.run(run())
    assert len(internet.requests) == 1
    assert {image.digest for image in images} == {images[0].digest}


@pytest.mark.parametrize("ahead", [False, True], ids=["one size", "any size"])
@pytest.mark.parametrize(
    ("headers", "differs"),
    [
        ([], False),
        (["Content-Type: image/png"], False),
        (["content-type:  IMAGE/PNG ; charset=x"], False),
        (["Content-Type:"], False),
        (["Content-Type: image/jpeg"], True),
        (["Content-Type: text/html"], True),
        (["Content-Type: application/octet-stream"], True),
    ],
    ids=str,
)
def test_a_server_that_calls_its_picture_another_type_is_noticed(
    album, loading, ahead, headers, differs
):
    internet = Internet()
    internet.pages["/cat.png"] = answer(files.PNG, headers=headers)

    async def run():
        async with internet.up():
            fetcher = Fetcher(PATIENT, resolve=internet.resolve, dial=internet.dial)
            loader = loading(fetcher=fetcher)
            wanted = parts("http://pictures.test/cat.png", data_url(files.PNG))
            if not ahead:
                return await loader.load(wanted, POLICY)
            async with loader.fetch(wanted) as fetched:
                return await loader.load(wanted, POLICY, fetched=fetched)

    images = album.runner.run(run())
    assert [image.is_declared_otherwise for image in images] == [differs, False]


def test_what_a_login_page_says_is_not_followed(album, loading):
    internet = Internet()
    page = b"<!doctype html><meta http-equiv=refresh content='0;url=http://127.0.0.1/'>"
    internet.pages["/cat.png"] = answer(page, headers=["Content-Type: image/png"])

    async def run():
        async with internet.up():
            fetcher = Fetcher(PATIENT, resolve=internet.resolve, dial=internet.dial)
            await loading(fetcher=fetcher).load(parts("http://pictures.test/cat.png"), POLICY)

    with pytest.raises(RequestError) as caught:
        album.runner.run(run())
    assert caught.value.code == "unsupported_image_media_type"
    assert internet.canary_hits == 0


def test_one_bad_image_ends_the_fetches_of_the_others(album, loading):
    internet = Internet()

    async def never(reader, writer):
        await reader.read()

    internet.pages["/slow.png"] = never
    internet.pages["/bad.png"] = answer(b"no image")

    async def run():
        async with internet.up():
            fetcher = Fetcher(PATIENT, resolve=internet.resolve, dial=internet.dial)
            urls = ("http://pictures.test/slow.png", "http://pictures.test/bad.png")
            async with asyncio.timeout(30):
                await loading(fetcher=fetcher).load(parts(*urls), POLICY)

    with pytest.raises(RequestError) as caught:
        album.runner.run(run())
    assert caught.value.param == "messages[0].content[1].image_url"


@pytest.fixture
def media_root(tmp_path):
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    (root / "cat.png").write_bytes(files.PNG)
    (root / "deep" / "a cat.png").write_bytes(files.PNG)
    (tmp_path / "secret.png").write_bytes(files.PNG)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "loop.png").symlink_to(root / "loop.png")
    (root / "inside.png").symlink_to(root / "cat.png")
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize(
    "path",
    [
        "cat.png",
        "./deep/../cat.png",
        "inside.png",
        "{root}/cat.png",
        "file://{root}/deep/a%20cat.png",
    ],
)
def test_files_inside_the_media_root_can_be_named(album, loading, media_root, path):
    loader = loading(MediaOptions(media_root=media_root))
    [image] = album.runner.run(loader.load(parts(path.format(root=media_root)), POLICY))
    assert image.original_width == files.WIDTH


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../secret.png",
            "deep/../../secret.png",
            "link.png",
            "{root}/../secret.png",
            "/etc/passwd",
        ),
        *(
            "file:///etc/passwd",
            "file://{root}/%2e%2e/secret.png",
            "missing.png",
            "deep",
            "pipe.png",
        ),
        *("loop.png", "{root}x/cat.png", "/dev/zero", "cat.png/x", "a" * 300),
    ],
)
def test_nothing_else_can_be_named(album, loading, media_root, path):
    loader = loading(MediaOptions(media_root=media_root))
    with pytest.raises(RequestError) as caught:
        album.runner.run(loader.load(parts(path.format(root=media_root)), POLICY))
    assert caught.value.code == "invalid_image_url"
    assert str(media_root) not in caught.value.message


def test_without_a_media_root_no_file_is_opened(album, loading, media_root):
    with pytest.raises(RequestError) as caught:
        album.runner.run(loading().load(parts(f"file://{media_root}/cat.png"), POLICY))
    assert caught.value.message == "Only http, https and data URLs are accepted."


def test_a_file_over_the_limit_is_refused(album, loading, media_root):
    limits = Limits(max_image_bytes=len(files.PNG) - 1, decode_timeout_s=60)
    loader = loading(MediaOptions(media_root=media_root), limits)
    with pytest.raises(RequestError) as caught:
        album.runner.run(loader.load(parts("cat.png"), POLICY))
    assert caught.value.code == "image_file_too_large"


def test_options_that_cannot_be_right_stop_the_server(tmp_path):
    with pytest.raises(StartupError):
        MediaLoader(options=MediaOptions(media_root=tmp_path / "missing"))
    with pytest.raises(StartupError):
        MediaLoader(options=MediaOptions(allow_hosts=("not a host",)))
