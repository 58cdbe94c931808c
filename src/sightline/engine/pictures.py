"""Encodes pictures and keeps their embeddings on the device.

On a GPU pixels are copied from pinned memory and encoded on a stream of their own; the step's
stream waits for them on the device, the host does not wait at all. Whether a picture came out
finite is known when the step's results are.

Legend: D model width.
"""

import time
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from sightline.core.prompt import Image
from sightline.engine.plan import Plan
from sightline.models.contract import VisionLanguageModel
from sightline.models.footprint import pictures_at_once
from sightline.models.transfer import DeviceClock, Fetch, send_bytes


class BadEmbeddings(Exception):
    """The vision tower produced NaN or infinity."""


class Encoding:
    """What was queued for one step."""

    def __init__(self, clock: "_HostClock | DeviceClock", flags: dict[bytes, Tensor]) -> None:
        self._clock = clock
        self._flags = flags

    @property
    def num_encoded(self) -> int:
        return len(self._flags)

    def seconds(self) -> float:
        """Return how long the device took, once the step's results are there."""
        return self._clock.seconds()

    def bad_keys(self) -> list[bytes]:
        return [key for key, flag in self._flags.items() if not bool(flag)]


class PictureEncoder:
    """`rows` has the embeddings [rows, D] of every picture that was encoded and not dropped."""

    def __init__(self, model: VisionLanguageModel, device: torch.device) -> None:
        self.rows: dict[bytes, Tensor] = {}
        self._model = model
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def drop(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.rows.pop(key, None)

    def encode(self, plan: Plan, fetch: Fetch) -> Encoding | None:
        """Queue the pictures that `plan` needs and that are not there; None if there are none."""
        missing: dict[bytes, Image] = {}
        for chunk in plan.chunks:
            for needed in chunk.images:
                if needed.key not in self.rows:
                    missing[needed.key] = needed.span.image
        if not missing:
            return None
        if self._stream is None:
            host = _HostClock()
            flags = self._encode(missing, fetch)
            host.stop()
            return Encoding(host, flags)
        step = torch.cuda.current_stream(self._device)
        # Memory that the last step gave back may still be read by what it queued.
        self._stream.wait_stream(step)
        clock = DeviceClock(self._stream)
        try:
            with torch.cuda.stream(self._stream):
                flags = self._encode(missing, fetch)
        finally:  # where one picture fails, the next step finds those that came before it
            clock.stop()
            step.wait_stream(self._stream)
        return Encoding(clock, flags)

    def _encode(self, missing: dict[bytes, Image], fetch: Fetch) -> dict[bytes, Tensor]:
        flags: dict[bytes, Tensor] = {}
        by_size: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        for key, image in missing.items():
            by_size[image.height, image.width].append(key)
        for (height, width), keys in by_size.items():
            at_once = len(keys)
            if self._stream is not None:
                at_once = pictures_at_once(width, height)
            for first in range(0, len(keys), at_once):
                group = keys[first : first + at_once]
                pixels = send_bytes([missing[key].pixels for key in group], self._device)
                encoded = self._model.encode_images(pixels.view(-1, height, width, 3))
                for key, rows in zip(group, encoded, strict=True):
                    flags[key] = fetch.add(torch.isfinite(rows.float().sum()))
                    self.rows[key] = rows.clone()  # no view: the others may go first
        return flags


class _HostClock:
    """Times work that is done when the call returns, as a `DeviceClock` does what is queued."""

    def __init__(self) -> None:
        self._began = self._ended = time.monotonic()

    def stop(self) -> None:
        self._ended = time.monotonic()

    def seconds(self) -> float:
        return self._ended - self._began
