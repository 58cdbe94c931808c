"""Which device is taken, and what people are told when it cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sightline.core.errors import StartupError
from sightline.models import device as devices
from sightline.models import device_memory
from sightline.models.device import dtype_for_device, find_device

Machine = Callable[..., None]
CUDA = torch.device("cuda:0")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Pretends a driver, a build of torch and a number of visible cards."""

    def pretend(*, cuda: str | None, count: int, card: bool = True, capability: int = 9) -> None:
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capability, 0))
        cards = (tmp_path if card else tmp_path / "nothing",)
        monkeypatch.setattr(device_memory, "DRIVER_CARDS", cards)
        monkeypatch.setattr(devices, "_checked", torch.device)

    return pretend


def refusal(name: str) -> str:
    with pytest.raises(StartupError) as caught:
        find_device(name)
    return caught.value.message


def test_auto_takes_the_first_visible_gpu(machine: Machine) -> None:
    machine(cuda="13.0", count=2)
    assert find_device("auto") == torch.device("cuda:0")
    assert find_device("cuda") == torch.device("cuda:0")
    assert find_device("cuda:1") == torch.device("cuda:1")


def test_a_gpu_that_this_torch_cannot_use_is_said_and_the_cpu_taken(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(cuda=None, count=0)
    assert find_device("auto").type == "cpu"
    assert "there is an NVIDIA GPU, but this torch was built without CUDA" in caplog.text


def test_a_machine_without_a_gpu_is_not_warned_of_anything(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine(cuda=None, count=0, card=False)
    assert find_device("auto").type == "cpu"
    assert not caplog.records


def test_cuda_with_a_cpu_build_names_what_to_install(machine: Machine) -> None:
    machine(cuda=None, count=0)
    assert "built without CUDA: install one that has it (pip install" in refusal("cuda")


def test_cuda_that_sees_no_card_names_what_to_look_at(machine: Machine) -> None:
    machine(cuda="12.8", count=0)
    complaint = refusal("cuda:0")
    assert "nvidia-smi" in complaint
    assert "CUDA_VISIBLE_DEVICES" in complaint
    assert "12.8" in complaint


@pytest.mark.parametrize("name", ["cuda:2", "cuda:-1", "cuda:x"])
def test_a_card_that_is_not_there_names_those_that_are(machine: Machine, name: str) -> None:
    machine(cuda="12.8", count=2)
    assert "use cuda:0 to cuda:1" in refusal(name)


@pytest.mark.parametrize(
    ("capability", "kept", "taken"),
    [
        (9, torch.bfloat16, torch.bfloat16),
        (8, torch.bfloat16, torch.bfloat16),
        (7, torch.bfloat16, torch.float16),
        (7, torch.float32, torch.float32),
        (7, torch.float16, torch.float16),
    ],
)
def test_cards_without_bfloat16_compute_in_float16(
    machine: Machine, capability: int, kept: torch.dtype, taken: torch.dtype
) -> None:
    machine(cuda="12.8", count=1, capability=capability)
    assert dtype_for_device(kept, CUDA, 1) == taken
