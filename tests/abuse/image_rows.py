"""Pictures (I) and addresses of pictures (U)."""

from base64 import b64encode
from collections.abc import Iterator

from tests.abuse.rows import BAD, OK, PICTURE, Builder, Row
from tests.abuse.traps import Traps
from tests.support import picture_files as files

NUM_MUTANTS = 200


def images(make: Builder) -> Iterator[Row]:
    def of(data: bytes) -> dict[str, object]:
        return make.image(files.data_url(data))

    for id, (data, code) in files.not_pictures().items():
        yield make.json(f"I20 {id}", of(data), statuses=BAD, codes=(code,))
    for id, data in {
        "I02 half a JPEG": files.JPEG[: len(files.JPEG) // 2],
        "I03 half a PNG": files.PNG[: len(files.PNG) // 2],
        "I01 a signature": files.PNG[:8],
        "I01 a head": files.PNG[:33],
        "I06 no width": files.png(files.ihdr(0, 10), files.GRAY[1]),
        "I19 no frames": files.GIF[:13] + b";",
    }.items():
        yield from make.both(id, of(data), statuses=BAD, codes=("image_parse_error",))
    large = {"statuses": BAD, "codes": ("image_too_large",)}
    for id, data in {
        "I04 PNG": files.png(files.ihdr(200_000, 200_000), files.GRAY[1]),
        "I04 JPEG": files.jpeg_that_declares(65_000, 65_000),
        "I04 GIF": files.gif_of_one_pixel(65_000, 65_000),
        "I04 WebP": files.webp_that_declares(16_384, 16_384),
        "I04 BMP": files.bmp_that_declares(2**30, 2**30),
        "I05 169 Mpx": files.png(
            files.ihdr(13_000, 13_000, depth=1, colour=0),
            (b"IDAT", files.deflated_run(13_000 * 1626)),
        ),
        "I06 a line": files.png(files.ihdr(2**31 - 1, 1), files.GRAY[1]),
        "I07 wide": files.encode(files.quarters(10_000, 2), "PNG"),
        "I07 high": files.encode(files.quarters(2, 10_000), "PNG"),
    }.items():
        yield make.json(id, of(data), **large)
    for width, height in ((1, 1), (2, 2), (3, 3), (1, 3), (3, 1)):
        picture = files.encode(files.quarters(max(width, 2), max(height, 2)), "PNG")
        yield make.json(f"I08 {width}x{height}", of(picture), statuses=OK)
    for id, data in {
        "I18 300 frames": files.gif_frames(300),
        "I25 the type lies": files.JPEG,
        "I13 GIF": files.GIF,
        "I13 WebP": files.WEBP,
        "I13 BMP": files.BMP,
        "I17 bad EXIF": files.jpeg_with_segment(files.JPEG, 0xE1, b"Exif\0\0" + b"\xff" * 64),
        "I10 bad profile": files.jpeg_with_segment(files.JPEG, 0xE2, b"ICC_PROFILE\0" + b"x" * 99),
    }.items():
        yield from make.both(id, of(data), statuses=OK)
    bomb = files.png(
        files.GRAY[0], (b"zTXt", b"x\0\0" + files.deflated_run(64 * 2**20)), files.GRAY[1]
    )
    yield make.json("I09 text of 64 MiB", of(bomb), is_heavy=True)
    for id, source in _base64().items():
        statuses = BAD if id.startswith("bad") else OK
        yield make.json(f"I26 {id}", make.image(source), statuses=statuses)
    yield make.json(
        "I27 at the limit", of(files.padded_png(20 * 2**20)), statuses=OK, is_heavy=True
    )
    over = {"statuses": BAD, "codes": ("image_file_too_large",), "is_heavy": True}
    yield make.json("I27 over the limit", of(files.padded_png(20 * 2**20 + 1)), **over)
    part = {"type": "image_url", "image_url": {"url": PICTURE}}
    yield make.json("I28 17 images", make.chat([part] * 17), statuses=BAD)
    for name, data in files.mutants(NUM_MUTANTS):
        yield make.json(f"I31 {name}", of(data), statuses=(200, 400))
    for detail in ("ultra", "", 5, [], {}):
        image = {"type": "image_url", "image_url": {"url": PICTURE, "detail": detail}}
        yield make.json(f"detail {detail!r}", make.chat([image]), statuses=BAD)


def _base64() -> dict[str, str]:
    plain = b64encode(files.PNG).decode()
    return {
        "line breaks": "data:image/png;base64," + plain[:40] + "\r\n " + plain[40:],
        "url-safe": "data:image/png;base64," + plain.replace("+", "-").replace("/", "_"),
        "no padding": "data:image/png;base64," + plain.rstrip("="),
        "capitals": "DATA:IMAGE/PNG;BASE64," + plain,
        "parameters": "data:image/png;name=x;base64," + plain,
        "bare": plain,
        "bad letters": "data:image/png;base64,!!!!",
        "bad fullwidth": "data:image/png;base64,ＡＢＣＤ",
        "bad: nothing": "data:image/png;base64,",
        "bad: no data": "data:",
        "bad: no comma": "data:image/png;base64",
        "bad: not base64": "data:image/png,%89PNG",
        "bad: bare word": "picture",
        "bad: empty": "",
    }


SCHEMES = (
    "file:///etc/passwd",
    "/etc/passwd",
    "C:\\x.png",
    "../../etc/passwd",
    "ftp://127.0.0.1/x",
    "gopher://127.0.0.1:70/_x",
    "jar:http://127.0.0.1!/x",
    "blob:http://127.0.0.1/x",
    "javascript:alert(1)",
    "s3://bucket/x",
    "unix:/var/run/docker.sock",
    "http:/127.0.0.1/x",
    "http://",
    "http:///x",
    "//127.0.0.1/x",
    "http://x:65536/",
    "http://x:-1/",
    "http://[::1/",
    "http://" + "x" * 8193 + ".example/",
)

# Spellings of this machine and its neighbourhood; {port} is a trap's where the form has one.
SPELLINGS = (
    "127.0.0.1",
    "localhost",
    "localhost.",
    "[::1]",
    "[::]",
    "0.0.0.0",
    "0",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "127.0.0.2",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "１２７.0.0.1",
    "127。0。0。1",
    "ⓛocalhost",
)
NEIGHBOURS = (
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "240.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::ffff:a9fe:a9fe]",
    "[fe80::1]",
    "[fc00::1]",
)
CONFUSIONS = (
    "http://good.example\\@127.0.0.1:{port}/",
    "http://good.example@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@good.example/",
    "http://127.0.0.1:{port}\t/",
    "http://127.0.0.1:{port}\n/",
    "http://127.0.0.1 :{port}/",
    "http://good.example:80@127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}\\",
    "http://127.0.0.1%00.good.example:{port}/",
    "http://127.0.0.1%2f.good.example:{port}/",
)


def addresses(make: Builder, traps: Traps) -> Iterator[Row]:
    refused = {"statuses": BAD}
    for url in SCHEMES:
        yield make.json(f"U04 {url[:30]}", make.image(url), **refused)
    for url in CONFUSIONS:
        yield make.json(f"U11 {url!r:.30}", make.image(url.format(port=traps.port)), **refused)
    for host in SPELLINGS:
        for port in (f":{traps.port}", ""):
            yield make.json(
                f"U05 {host}{port}", make.image(f"http://{host}{port}/x.png"), **refused
            )
        if traps.redirector:
            url = f"http://127.0.0.1:{traps.redirector}/to?http://{host}:{traps.port}/x.png"
            yield make.json(f"U14 to {host}", make.image(url), **refused)
    for host in NEIGHBOURS:
        yield make.json(f"U07 {host}", make.image(f"http://{host}/x.png"), **refused)
        if traps.redirector:
            url = f"http://127.0.0.1:{traps.redirector}/to?http://{host}/x.png"
            yield make.json(f"U14 to {host}", make.image(url), **refused)
    for port in (22, 25, 6379, 11211):
        yield make.json(f"U12 {port}", make.image(f"http://example.com:{port}/"), **refused)
    own = f"http://{make.target.host}:{make.target.port}/v1/models"
    yield make.json("our own listener", make.image(own), **refused)
    if traps.redirector:
        for name in ("file:///etc/passwd", "//127.0.0.1:{port}/", "/to?/to?/to?/to?/to?x", ""):
            target = name.format(port=traps.port)
            url = f"http://127.0.0.1:{traps.redirector}/to?{target}"
            yield make.json(f"U14 to {name!r:.20}", make.image(url), **refused)
        for page in ("status/404", "status/500", "html", "endless", "long", "gzip"):
            url = f"http://127.0.0.1:{traps.redirector}/{page}"
            yield make.json(f"U17 {page}", make.image(url), **refused)
        good = f"http://127.0.0.1:{traps.redirector}/picture"
        yield make.json("a good picture", make.image(good), statuses=OK)
