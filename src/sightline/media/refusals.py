"""The words with which an image is refused: one function per row of the error table.

Each returns a `RequestError` whose `param` the loader fills in. Texts are fixed, name the limit
and the value found, and never quote more than a host name.
"""

import math

from sightline.core.errors import RequestError, shorten
from sightline.core.limits import KIB, MIB, Limits

ACCEPTED_FORMATS = "JPEG, PNG, WebP, GIF, BMP"


def invalid_url(detail: str = "Only http, https and data URLs are accepted.") -> RequestError:
    return RequestError(detail, code="invalid_image_url")


def url_too_long(num_bytes: int, limits: Limits) -> RequestError:
    return invalid_url(f"The URL has {num_bytes} bytes; limit {limits.max_url_bytes}.")


def host_not_public(host: str) -> RequestError:
    return RequestError(
        f"Host '{shorten(host)}' is not public; start the server with "
        f"--allow-media-host {_bracketed(host)} to permit it.",
        code="image_url_blocked",
    )


def port_not_allowed(host: str, port: int) -> RequestError:
    return RequestError(
        f"Port {port} is not allowed; start the server with "
        f"--allow-media-host {_bracketed(host)}:{port} to permit it.",
        code="image_url_blocked",
    )


def own_listener(host: str, port: int) -> RequestError:
    return RequestError(
        f"Host '{shorten(host)}' at port {port} is this server itself.", code="image_url_blocked"
    )


def fetching_is_off() -> RequestError:
    return RequestError(
        "This server fetches no URLs; send the image as a data URL.", code="image_url_blocked"
    )


def download_failed(reason: str) -> RequestError:
    return RequestError(f"Download failed: {reason}.", code="failed_to_download_image")


def download_timed_out(limits: Limits) -> RequestError:
    return download_failed(f"timed out after {limits.fetch_timeout_s:g} s")


def invalid_base64(position: int) -> RequestError:
    """`position` counts from 1 in the base64 text as it was sent."""
    return RequestError(f"Base64 is invalid at character {position}.", code="invalid_base64_image")


def empty() -> RequestError:
    return RequestError("The image is empty.", code="empty_image_file")


def file_too_large(num_bytes: int, limits: Limits) -> RequestError:
    found, limit = _in_words(num_bytes, limits.max_image_bytes)
    return RequestError(f"{found}; limit {limit}.", code="image_file_too_large")


def fetched_too_much(limits: Limits) -> RequestError:
    _, limit = _in_words(limits.max_fetch_bytes, limits.max_fetch_bytes)
    return RequestError(
        f"The images of this request are over {limit} together; limit {limit}.",
        code="image_file_too_large",
    )


def unsupported_media_type(found: str) -> RequestError:
    return RequestError(
        f"Found {found}; this model takes images only.", code="unsupported_image_media_type"
    )


def invalid_format() -> RequestError:
    return RequestError(f"Accepted: {ACCEPTED_FORMATS}.", code="invalid_image_format")


def damaged() -> RequestError:
    return RequestError("The image is damaged or cut short.", code="image_parse_error")


def decoding_too_slow(limits: Limits) -> RequestError:
    return RequestError(
        f"Decoding the image took longer than {limits.decode_timeout_s:g} s.",
        code="image_parse_error",
    )


def decoding_too_big(limits: Limits) -> RequestError:
    _, limit = _in_words(limits.decode_rss_bytes, limits.decode_rss_bytes)
    return RequestError(
        f"Decoding the image took more than {limit} of memory.", code="image_parse_error"
    )


def too_many_images(num_images: int, limits: Limits) -> RequestError:
    return RequestError(
        f"{num_images} images given, at most {limits.max_images}.", code="too_many_images"
    )


def size_refusal(width: int, height: int, limits: Limits) -> RequestError | None:
    """Return why an image of this size is refused, or None if it is not."""
    found = f"{width}x{height}"
    if width < 1 or height < 1:
        return damaged()
    if width * height > limits.max_image_pixels:
        limit = f"{limits.max_image_pixels} pixels"
    elif max(width, height) > limits.max_image_side:
        limit = f"{limits.max_image_side} pixels per side"
    elif max(width, height) > limits.max_image_ratio * min(width, height):
        limit = f"a ratio of {limits.max_image_ratio}:1"
    else:
        return None
    return RequestError(f"{found}; limit {limit}.", code="image_too_large")


def frame_too_large(limits: Limits) -> RequestError:
    """The decoder met a size over the limit that the file's header had not told."""
    return RequestError(
        f"A frame of the image is over the limit of {limits.max_image_pixels} pixels.",
        code="image_too_large",
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else shorten(host)


def _in_words(found: int, limit: int) -> tuple[str, str]:
    """Both sizes in the largest unit that states the limit exactly, `found` rounded up."""
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if limit % unit == 0:
            return f"{math.ceil(found * 10 / unit) / 10:g} {name}", f"{limit // unit} {name}"
    return f"{found} bytes", f"{limit} bytes"
