"""Image files made by test code: good, odd and hostile ones. Every builder is deterministic."""

import gzip
import io
import random
import struct
import zlib
from base64 import b64encode
from typing import Any

from PIL import Image

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
QUARTERS = (RED, GREEN, BLUE, YELLOW)  # top left, top right, bottom left, bottom right
WIDTH, HEIGHT = 64, 48


def quarters(
    width: int = WIDTH,
    height: int = HEIGHT,
    colours: tuple[tuple[int, int, int], ...] = QUARTERS,
) -> Image.Image:
    """Four flat quarters: no turn and no mirror leaves it as it is."""
    image = Image.new("RGB", (width, height))
    left, top = width // 2, height // 2
    corners = [(0, 0), (left, 0), (0, top), (left, top)]
    for (x, y), colour in zip(corners, colours, strict=True):
        image.paste(colour, (x, y, width if x else left, height if y else top))
    return image


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64encode(data).decode('ascii')}"


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of exactly these chunks, and IEND."""
    pieces = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in (*chunks, (b"IEND", b"")):
        checksum = zlib.crc32(kind + data)
        pieces += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)]
    return b"".join(pieces)


def ihdr(
    width: int, height: int, *, depth: int = 8, colour: int = 2, interlaced: bool = False
) -> tuple[bytes, bytes]:
    """`colour`: 0 gray, 2 RGB, 3 palette, 4 gray with alpha, 6 RGBA."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def idat(rows: bytes) -> tuple[bytes, bytes]:
    return b"IDAT", zlib.compress(rows, 9)


def rows(row: bytes, count: int) -> bytes:
    """`count` equal rows without a PNG filter."""
    return (b"\0" + row) * count


def deflated_run(count: int, byte: bytes = b"\0") -> bytes:
    """`count` equal bytes, compressed without ever being in memory."""
    packer = zlib.compressobj(9)
    block = byte * 2**20
    pieces = [packer.compress(block) for _ in range(count // len(block))]
    return b"".join([*pieces, packer.compress(block[: count % len(block)]), packer.flush()])


def exif(orientation: int, order: str = "<") -> bytes:
    """The smallest EXIF data that say how the picture lies, in either byte order."""
    head = b"II" if order == "<" else b"MM"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + struct.pack(f"{order}HIH", 42, 8, 1) + entry + bytes(4)


def jpeg_with_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload
    return jpeg[:2] + segment + jpeg[2:]


PNG = encode(quarters(), "PNG")
JPEG = encode(quarters(), "JPEG", quality=92, subsampling=0)
WEBP = encode(quarters(), "WEBP", lossless=True)
GIF = encode(quarters().quantize(8), "GIF")
BMP = encode(quarters(), "BMP")
GRAY = (ihdr(8, 8), idat(rows(b"\x80" * 24, 8)))  # an 8x8 picture of mid gray, as chunks


def gif_frames(count: int) -> bytes:
    frames = [Image.new("RGB", (16, 16), (0, i * 7 % 256, i % 256)) for i in range(count)]
    return encode(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)


def gif_of_one_pixel(screen_width: int, screen_height: int) -> bytes:
    screen = struct.pack("<HHBBB", screen_width, screen_height, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + screen + frame + b";"


def jpeg_that_declares(width: int, height: int) -> bytes:
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def webp_that_declares(width: int, height: int) -> bytes:
    extended = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + extended + (height - 1).to_bytes(3, "little")
    return (
        b"RIFF" + struct.pack("<I", 4 + len(chunk) + len(WEBP) - 12) + b"WEBP" + chunk + WEBP[12:]
    )


def bmp_that_declares(width: int, height: int) -> bytes:
    return BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]


def damaged_png() -> bytes:
    start = PNG.index(b"IDAT") + 4
    (size,) = struct.unpack_from(">I", PNG, start - 8)
    middle = start + size // 2
    return PNG[:middle] + bytes((PNG[middle] ^ 0xFF,)) + PNG[middle + 1 :]


def mutants(count: int) -> list[tuple[str, bytes]]:
    """Files of all five formats, each with eight bytes changed at random (the same ones always)."""
    bases = [("png", PNG), ("jpeg", JPEG), ("gif", GIF), ("webp", WEBP), ("bmp", BMP)]
    made = []
    for number in range(count):
        kind, base = bases[number % len(bases)]
        chance, data = random.Random(number), bytearray(base)
        for _ in range(8):
            data[chance.randrange(2, len(data))] = chance.randrange(256)
        made.append((f"{kind}-{number}", bytes(data)))
    return made


def padded_png(num_bytes: int) -> bytes:
    """A good picture of exactly `num_bytes` bytes, most of them in a private chunk."""
    least = len(png(GRAY[0], (b"raNd", b""), GRAY[1]))
    return png(GRAY[0], (b"raNd", bytes(num_bytes - least)), GRAY[1])


def not_pictures() -> dict[str, tuple[bytes, str]]:
    """Name to file and the code of its refusal, for all that is no accepted image format."""
    invalid, unsupported = "invalid_image_format", "unsupported_image_media_type"
    fits = b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800)
    svg = (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>'
    )
    tiff_pages = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(50)]
    return {
        "one byte": (PNG[:1], invalid),
        "random": (random.Random(4096).randbytes(4096), invalid),
        "tiff of integers": (encode(Image.new("I", (8, 8), 70_000), "TIFF"), invalid),
        "tiff of floats": (encode(Image.new("F", (8, 8), 1.5), "TIFF"), invalid),
        "tiff of 50 pages": (
            encode(tiff_pages[0], "TIFF", save_all=True, append_images=tiff_pages[1:]),
            invalid,
        ),
        "tga": (encode(quarters(), "TGA"), invalid),
        "ico": (encode(quarters(), "ICO"), invalid),
        "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(64), invalid),
        "huge ppm": (b"P6\n100000 100000\n255\n\0", invalid),
        "fits and a gzip bomb": (fits + gzip.compress(bytes(8 << 20), mtime=0), invalid),
        "gzip of a png": (gzip.compress(PNG, mtime=0), invalid),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), invalid),
        "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64), invalid),
        "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", invalid),
        "two letters of bmp": (b"BM" + b"\xee" * 64, invalid),
        "pdf": (b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n", unsupported),
        "svg with an entity": (svg, unsupported),
        "html": (b"<!doctype html><html><body>please log in</body></html>", unsupported),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", unsupported),
        "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(64), unsupported),
        "quicktime": (b"\0\0\0\x14ftypqt  \0\0\0\0qt  " + bytes(64), unsupported),
        "webm": (b"\x1aE\xdf\xa3" + bytes(64), unsupported),
        "mp3": (b"ID3\4\0\0\0\0\0\0" + bytes(64), unsupported),
        "wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(64), unsupported),
    }
