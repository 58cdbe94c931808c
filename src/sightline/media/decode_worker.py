"""The child process in which untrusted image bytes are decoded.

    python -m sightline.media.decode_worker MAX_PIXELS MAX_SIDE MAX_RATIO ADDRESS_BYTES CPU_S

It holds no secrets and no model, may write no file, and has hard limits on memory and CPU time.
It ends when its input ends, and with its parent.
"""

import contextlib
import os
import resource
import sys
import time
from typing import BinaryIO

from PIL import Image

from sightline.core.image_policy import ImagePolicy
from sightline.core.limits import Limits
from sightline.media import frames, refusals
from sightline.media.frames import Reply, Status
from sightline.media.normalise import displayed_pixels, is_animated, limit_pixels, open_image

MAX_OPEN_FILES = 32
_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main() -> None:
    max_pixels, max_side, max_ratio, address_bytes, cpu_s = map(int, sys.argv[1:6])
    limits = Limits(max_image_pixels=max_pixels, max_image_side=max_side, max_image_ratio=max_ratio)
    _die_with_parent()
    requests, replies = _take_pipes()
    limit_pixels(max_pixels)
    _limit_resources(address_bytes)
    replies.write(frames.HELLO)
    replies.flush()
    while request := _read_request(requests):
        _limit_cpu(cpu_s)
        data, target = request
        reply, pixels = decode(data, target, limits)
        del data, request
        replies.write(frames.pack_reply(reply))
        replies.write(pixels)
        replies.flush()


def decode(data: bytes, target: ImagePolicy, limits: Limits) -> tuple[Reply, bytes]:
    """Decode one picture and resize it, straight, as `target` says."""
    try:
        image = open_image(data)
        if refusals.size_refusal(*image.size, limits) is not None:
            return Reply(Status.TOO_LARGE, *image.size, 0), b""
        status = Status.FIRST_FRAME if is_animated(image, data) else Status.OK
        rgb = displayed_pixels(image)
        del image
        width, height = rgb.size
        size = target.target_size(width, height)
        pixels = rgb.resize(size, Image.Resampling.BICUBIC).tobytes()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return Reply(Status.TOO_LARGE, 0, 0, 0), b""
    except Exception:  # decoders raise anything, and none of their words may get out
        return Reply(Status.DAMAGED, 0, 0, 0), b""
    return Reply(status, width, height, len(pixels)), pixels


def _read_request(requests: BinaryIO) -> tuple[bytes, ImagePolicy] | None:
    head = requests.read(frames.REQUEST_HEAD_BYTES)
    if len(head) < frames.REQUEST_HEAD_BYTES:
        return None
    num_bytes, target = frames.unpack_request(head)
    data = requests.read(num_bytes)
    return (data, target) if len(data) == num_bytes else None


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout, and leave nothing there for a library that likes to print."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(null, standard)
    os.close(null)
    return requests, replies


def _die_with_parent() -> None:
    """Ask Linux for a SIGKILL when the parent ends; elsewhere the end of the pipe has to do."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        sys.exit()


def _limit_resources(address_bytes: int) -> None:
    limits = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_AS, address_bytes),
    ]
    for what, limit in limits:
        # macOS knows RLIMIT_AS and refuses to set it; the limits on size and time remain.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (limit, limit))


def _limit_cpu(cpu_s: int) -> None:
    """Allow `cpu_s` more seconds of CPU time; the kernel ends the process after that."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + cpu_s + 1, hard))


if __name__ == "__main__":
    main()
