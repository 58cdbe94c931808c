"""On a GPU the host must not wait in the midst of a step: told by tensors without numbers.

A number that the host reads, a shape that depends on numbers, and a copy from ordinary memory all
make it wait, and none of them can be recorded. The meta device has no numbers to read.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_families import FAMILIES, make
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sightline.models import clip_pixels
from sightline.models.footprint import largest_size
from sightline.models.gpu.gather_attention import GatherBackend
from sightline.models.paged_batch import PagedBatch
from sightline.models.paged_model import PagedModel

pytestmark = pytest.mark.engine
GPU = torch.device("meta")
N = 3
# How `torch.tensor` of Python's numbers ends, depending on the mode.
LISTS = (torch.ops.aten.lift_fresh.default, torch.ops.aten.detach_.default)


class NoWaits(TorchDispatchMode):
    """Fails on what is sent in any other way than queued; the meta device fails on the rest."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        devices = {arg.device.type for arg in (*args, out) if isinstance(arg, Tensor)}
        is_list = func in LISTS and devices == {GPU.type}
        if is_list or (len(devices) > 1 and not kwargs.get("non_blocking")):
            raise AssertionError(f"{func} makes the host wait")
        return out


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def sent(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(len(values), dtype=dtype, device=device)

    monkeypatch.setattr(clip_pixels, "to_device", sent)
    with torch.inference_mode(), NoWaits():
        yield


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES.keys())
def on_the_cpu(request: pytest.FixtureRequest, golden: Path) -> PagedModel:
    model = make(request.param, golden)
    assert isinstance(model, PagedModel)
    return model


@pytest.fixture
def model(on_the_cpu: PagedModel, no_waits: None) -> PagedModel:
    for part in on_the_cpu.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            values = torch.empty(weight.shape, dtype=torch.bfloat16, device=GPU)
            setattr(part, name, nn.Parameter(values, requires_grad=False))
    on_the_cpu.attention = GatherBackend()
    return on_the_cpu


def decodes() -> PagedBatch:
    def numbers(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int32, device=GPU)

    return PagedBatch(
        new_slots=numbers(N), tables=numbers(N, 16), lengths=numbers(N),
        first_rows=numbers(N + 1), num_decodes=N, max_new=1, max_slots=200,
    )  # fmt: skip


def test_a_step_of_decodes_can_be_recorded(model: PagedModel) -> None:
    pool = model.allocate_pool(8, 16)
    axes = model.positions(1, []).shape[:-1]
    embeds = model.embed(torch.zeros(N, dtype=torch.int64, device=GPU))
    positions = torch.zeros(*axes, N, dtype=torch.int64, device=GPU)
    hidden = model.forward_paged(embeds, positions, pool, decodes())
    scores = model.logits(hidden)
    assert scores.shape == (N, model.description.vocab_size)
    assert scores.device == GPU
    assert scores.dtype == model.dtype


def test_what_a_step_is_given_stays_as_it_was(model: PagedModel) -> None:
    """Layers add to their rows where they lie; somebody may want the first ones again."""
    embeds = model.embed(torch.zeros(N, dtype=torch.int64, device=GPU))
    positions = torch.zeros(*model.positions(1, []).shape[:-1], N, dtype=torch.int64, device=GPU)
    written: list[int] = []

    class Writes(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written.append(value.untyped_storage()._cdata)
            return func(*args, **(kwargs or {}))

    with Writes():
        model.forward_paged(embeds, positions, model.allocate_pool(8, 16), decodes())
    assert written
    assert embeds.untyped_storage()._cdata not in written


def test_pictures_are_encoded_without_a_wait(model: PagedModel) -> None:
    policy = model.description.image_policy
    if policy is None:
        pytest.skip("this family sees no pictures")
    width, height = largest_size(policy.within(None, 300 * 300))
    pixels = torch.zeros(2, height, width, 3, dtype=torch.uint8, device=GPU)
    rows = model.encode_images(pixels)
    assert rows.device == GPU
    assert rows.dtype == model.dtype


@pytest.mark.parametrize(
    "wait",
    [
        lambda: torch.tensor([1.0, 2.0], device=GPU),
        lambda: torch.zeros(2).to(GPU),
        lambda: torch.zeros(2, device=GPU)[0].item(),
        lambda: torch.zeros(2, device=GPU).nonzero(),
    ],
)
def test_a_wait_is_seen(wait: Callable[[], object], no_waits: None) -> None:
    with pytest.raises((AssertionError, NotImplementedError, RuntimeError)):
        wait()
