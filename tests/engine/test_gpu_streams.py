"""Which stream waits for which on a GPU, told by streams that only note what is asked of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pretend_device import image, sequence
from torch.nn.attention import SDPBackend

from sightline.core.errors import StartupError
from sightline.core.prompt import Image, ImageSpan
from sightline.engine import pictures
from sightline.engine.decode_graphs import CudaRecorder
from sightline.engine.pictures import PictureEncoder
from sightline.engine.plan import Chunk, NeededImage, Plan
from sightline.models.gpu import picture_attention
from sightline.models.gpu.picture_attention import TowerShape, choose_picture_attention
from sightline.models.transfer import Fetch

pytestmark = pytest.mark.engine
CPU = torch.device("cpu")


class Stream:
    """A stream that notes the streams that it waits for."""

    def __init__(self, *_: object) -> None:
        self.waited_for: list[Stream] = []

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other)


class Cuda:
    """Stands in the place of `torch.cuda`: remembers streams, and on which one work was queued."""

    def __init__(self) -> None:
        self.main = Stream()
        self.entered: list[Stream] = []
        self.captures: list[dict[str, Any]] = []
        self.restored: list[Stream] = []

    def current_stream(self, _: torch.device | None = None) -> Stream:
        return self.main

    def set_stream(self, stream: Stream) -> None:
        self.restored.append(stream)

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.entered.append(stream)
        yield

    @contextmanager
    def graph(self, graph: object, **options: Any) -> Iterator[None]:
        self.captures.append(options)
        yield


class Graph:
    def pool(self) -> str:
        return "the first one's memory"

    def replay(self) -> None:
        pass


class Clock:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def stop(self) -> None:
        pass


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    monkeypatch.setattr(torch.cuda, "current_stream", cuda.current_stream)
    monkeypatch.setattr(torch.cuda, "stream", cuda.stream)
    monkeypatch.setattr(torch.cuda, "set_stream", cuda.set_stream)
    monkeypatch.setattr(torch.cuda, "graph", cuda.graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(pictures, "DeviceClock", Clock)
    return cuda


class Tower:
    """Encodes a picture as one row of zeros; it has no memory for pictures of another width."""

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        if pixels.shape[2] != 1:
            raise torch.OutOfMemoryError
        return torch.zeros(len(pixels), 1, 4)


def plan(*images: Image) -> Plan:
    asked = sequence(range(9))
    needed = tuple(
        NeededImage(each.digest, ImageSpan(image=each, start=index, length=1))
        for index, each in enumerate(images)
    )
    return Plan(chunks=(Chunk(asked, 0, 9, [0], True, 0, images=needed),))


def picture(name: bytes, width: int) -> Image:
    plain = image(name)
    return Image(
        pixels=bytes(3 * width), width=width, height=1, digest=plain.digest,
        original_width=width, original_height=1,
    )  # fmt: skip


def encoder(cuda: Cuda) -> PictureEncoder:
    made = PictureEncoder(Tower(), CPU)  # type: ignore[arg-type]
    made._stream = Stream()  # type: ignore[assignment]
    return made


def test_pictures_wait_for_the_last_step_and_the_step_for_pictures(cuda: Cuda) -> None:
    made = encoder(cuda)
    assert made.encode(plan(picture(b"a", 1)), Fetch(CPU)) is not None
    assert made._stream.waited_for == [cuda.main]  # type: ignore[union-attr]
    assert cuda.main.waited_for == [made._stream]
    assert cuda.entered == [made._stream]


def test_the_step_waits_for_pictures_that_came_before_one_that_failed(cuda: Cuda) -> None:
    """The retry finds the first one encoded, and must not read it before it is there."""
    made = encoder(cuda)
    with pytest.raises(torch.OutOfMemoryError):
        made.encode(plan(picture(b"small", 1), picture(b"large", 2)), Fetch(CPU))
    assert b"small" in made.rows
    assert cuda.main.waited_for == [made._stream]


def test_all_recordings_are_made_on_one_stream_in_one_memory(cuda: Cuda) -> None:
    """Libraries set memory aside for each stream, and memory is shared on one stream alone."""
    recorder = CudaRecorder(CPU)
    work: Callable[[], Any] = lambda: (torch.zeros(1), torch.zeros(1))  # noqa: E731
    for _ in range(3):
        recorder.record(work)
    assert len(set(cuda.entered)) == 1
    assert {capture["stream"] for capture in cuda.captures} == set(cuda.entered)
    memories = [capture["pool"] for capture in cuda.captures]
    assert memories == [None, "the first one's memory", "the first one's memory"]


def test_after_a_recording_that_fails_work_goes_on_where_it_was(cuda: Cuda) -> None:
    def work() -> Any:
        if cuda.captures:
            raise RuntimeError("operation not permitted when stream is capturing")
        return torch.zeros(1), torch.zeros(1)

    with pytest.raises(RuntimeError, match="not permitted"):
        CudaRecorder(CPU).record(work)
    assert cuda.restored == [cuda.main]


@pytest.mark.parametrize(("is_fixed", "number"), [(True, 3), (False, 2)])
def test_kernels_that_are_built_for_every_size_are_not_tried_where_pictures_have_any(
    monkeypatch: pytest.MonkeyPatch, is_fixed: bool, number: int
) -> None:
    monkeypatch.setattr(picture_attention, "_check", lambda *_: None)
    monkeypatch.setattr(picture_attention, "_seconds", lambda *_: 1.0)
    chosen = choose_picture_attention(TowerShape(2, 8, 64, is_fixed), torch.bfloat16, CPU)
    assert len(chosen.kernels) == number


@pytest.mark.parametrize("broken_row", [None, 0, 299])
def test_a_kernel_is_checked_with_pictures_of_the_size_that_it_will_see(
    monkeypatch: pytest.MonkeyPatch, broken_row: int | None
) -> None:
    attend = F.scaled_dot_product_attention

    def forgetful(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        mixed = attend(query, key, value)
        if broken_row is not None and query.shape[2] > broken_row:
            mixed[:, :, broken_row] = 0
        return mixed

    monkeypatch.setattr(F, "scaled_dot_product_attention", forgetful)
    monkeypatch.setattr(picture_attention, "_seconds", lambda *_: 1.0)
    monkeypatch.setattr(picture_attention, "KERNELS", (SDPBackend.FLASH_ATTENTION,))
    shape = TowerShape(2, 16, 300)
    if broken_row is None:
        assert choose_picture_attention(shape, torch.bfloat16, CPU).kernels
        return
    with pytest.raises(StartupError, match="its result is wrong"):
        choose_picture_attention(shape, torch.bfloat16, CPU)
