"""Linear layers that get their kernels while the weights are read, on several threads."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from schedules import make_prompt, run_alone
from tiny_families import QWEN2, QWEN25, qwen2_files, qwen_vl_files
from torch import Tensor
from torch_threads import torch_threads

from sightline.core.errors import StartupError
from sightline.models.linear import GatedLinear, Linear
from sightline.models.loading import LoadedModel, load_model
from sightline.models.packed_weight import can_pack, can_stream
from sightline.models.packing import pack_linears
from sightline.models.paged_model import PagedModel

pytestmark = pytest.mark.engine

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
FILES: dict[str, Callable[[], dict[str, bytes]]] = {
    "glm4v": lambda: {file.name: file.read_bytes() for file in (GOLDEN / "glm4v-a").iterdir()},
    "qwen-vl in pickled shards": qwen_vl_files,
    "qwen2-vl": lambda: qwen2_files(QWEN2),
    "qwen2.5-vl": lambda: qwen2_files(QWEN25),
}


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=[1, 3], ids=lambda n: f"{n} threads", autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch_threads(request.param):
        yield


@pytest.fixture(params=FILES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for name, content in FILES[request.param]().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def glm(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "glm4v-a", tmp_path / "glm"))


def said(loaded: LoadedModel) -> list[Tensor]:
    """Return what the model makes of a picture, and of a prompt."""
    model, policy = loaded.model, loaded.description.image_policy
    assert isinstance(model, PagedModel)
    pack_linears(model, loaded.dtype)
    assert policy is not None
    width, height = policy.target_size(100, 100)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (1, height, width, 3), dtype=torch.uint8, generator=generator)
    prompt = make_prompt(model, 1, 40, None, num_ids=190)
    return [model.encode_images(pixels), model.logits(run_alone(model, prompt))]


@pytest.mark.parametrize("is_stored_narrow", [False, True], ids=["fp32 files", "bf16 files"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_packed_while_it_is_read_says_the_same(
    folder: Path, dtype: str, is_stored_narrow: bool
) -> None:
    """All tensors of a thread are read into the same memory: a layer that kept it would show."""
    file = folder / "model.safetensors"
    if is_stored_narrow:
        if not file.exists():
            pytest.skip("the same as with other families")
        save_file({name: t.bfloat16() for name, t in load_file(file).items()}, file)
    how: dict[str, Any] = {"dtype": dtype, "device": "cpu"}
    first, second = (said(load_model(folder, **how, packed=packed)) for packed in (False, True))
    assert all(map(torch.equal, first, second))


def test_every_layer_has_its_kernel_when_the_last_weight_has_come(glm: Path) -> None:
    model = load_model(glm, device="cpu", packed=True).model
    assert isinstance(model, PagedModel)
    layers = [module for module in model.modules() if isinstance(module, Linear)]
    kept = [layer for layer in layers if layer.weight is not None]
    pack_linears(model)
    assert [layer for layer in layers if layer.weight is not None] == kept


def test_progress_counts_every_byte_once(glm: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_model(glm, device="cpu", packed=True, progress=lambda *row: seen.append(row))
    done = [row[0] for row in seen]
    assert done == sorted(set(done))
    assert {row[1] for row in seen} == {done[-1]}


def test_a_file_that_shrinks_while_it_is_read_is_refused(glm: Path) -> None:
    with pytest.raises(StartupError, match="the file changed while it was read"):
        load_model(
            glm,
            device="cpu",
            packed=True,
            progress=lambda *_: os.truncate(glm / "model.safetensors", 5000),
        )


def test_a_layer_is_our_own_kernels_only_if_both_halves_are() -> None:
    """Else memory would be read into again that the other kernel may still use."""
    if not can_stream() or not can_pack(torch.float32):
        pytest.skip("no kernel of ours takes them")
    layer = GatedLinear(64, 32)
    assert layer.weight is not None
    layer.weight.data[:32] = layer.weight.data[:32].bfloat16().float()
    assert layer.pack(torch.float32)
    assert not layer.is_streamed


def test_memory_that_the_system_does_not_give_for_a_matrix_is_named(
    glm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("sightline.models.cpu.huge_pages.HUGE_PAGE", 64)
    monkeypatch.setattr("sightline.models.cpu.huge_pages.mmap.mmap", refuse)
    with pytest.raises(StartupError, match="Not enough memory on cpu"):
        load_model(glm, device="cpu", packed=True)


def test_what_has_not_begun_when_a_tensor_is_refused_is_left(
    glm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def fail(self: object, tensor: Tensor, name: str, *_: object) -> None:
        begun.append(name)
        raise StartupError("damaged")

    monkeypatch.setattr("sightline.models.safetensors_file.SafetensorsFile.read_into", fail)
    with pytest.raises(StartupError, match="damaged"):
        load_model(glm, device="cpu", packed=True)
    assert len(begun) <= torch.get_num_threads()
