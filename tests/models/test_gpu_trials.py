"""What is tried on a GPU is noted, left out where that is wanted, and never believed in vain."""

from collections.abc import Iterator

import pytest
import torch

from sightline.core.engine_options import KernelName
from sightline.models.gpu import choice, quantized_choice, trials
from sightline.models.gpu.trials import KernelsLost, LeftOut, trial
from sightline.models.quantized_kernels import DequantizingKernel, keeps_its_promise

pytestmark = pytest.mark.engine
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


class Device:
    """One that is there until somebody takes it away."""

    def __init__(self) -> None:
        self.is_lost = False

    def take(self) -> None:
        self.is_lost = True
        raise RuntimeError("an illegal memory access was encountered")


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    device = Device()
    monkeypatch.setattr(trials, "is_lost", lambda which: device.is_lost)
    yield device
    trials.prepare()


@pytest.fixture
def notes() -> list[KernelName | None]:
    return []


def test_who_supervises_knows_what_is_tried(notes: list[KernelName | None]) -> None:
    trials.prepare(note=notes.append)
    with trial("graphs", GPU):
        with trial("overlap", GPU):
            assert notes == ["graphs", "overlap"]
        assert notes[2:] == ["graphs"]
    assert notes[3:] == [None]


def test_a_trial_that_fails_is_over_too(notes: list[KernelName | None]) -> None:
    trials.prepare(note=notes.append)
    with pytest.raises(ValueError, match="wrong"), trial("linear", GPU):
        raise ValueError("wrong")
    assert notes == ["linear", None]


def test_a_lost_device_is_told_whatever_was_raised(
    device: Device, notes: list[KernelName | None]
) -> None:
    trials.prepare(note=notes.append)
    with (
        pytest.raises(KernelsLost, match="--without-kernels norm"),
        trials.all_together(GPU),
        trial("norm", GPU),
    ):
        device.take()
    assert notes == ["own", "norm"], "what is noted stays, for whoever reads it behind the end"


def test_a_device_lost_in_silence_is_found(device: Device) -> None:
    """A launch is only queued: what a kernel does may show when its trial is long over."""
    with pytest.raises(KernelsLost), trial("tower", GPU):
        device.is_lost = True


@pytest.mark.parametrize(
    ("off", "left_out"),
    [
        (("linear",), {"linear"}),
        (("own",), {"own", "attention", "linear", "norm", "tower", "quantized", "overlap"}),
        (("graphs", "varlen"), {"graphs", "varlen"}),
    ],
)
def test_what_is_off_is_not_tried(
    off: tuple[KernelName, ...], left_out: set[KernelName], notes: list[KernelName | None]
) -> None:
    trials.prepare(off, notes.append)
    names: list[KernelName] = [
        "own", "attention", "linear", "norm", "tower", "quantized", "overlap", "varlen", "graphs",
    ]  # fmt: skip
    found = set()
    for name in names:
        try:
            with trial(name, GPU):
                pass
        except LeftOut:
            found.add(name)
    assert found == left_out
    assert not left_out & {*notes}


def test_nothing_is_on_trial_together_where_nothing_is_ours(
    notes: list[KernelName | None],
) -> None:
    for off, device in ((("own",), GPU), ((), CPU)):
        trials.prepare(off, notes.append)
        with trials.all_together(device):
            assert notes == []


SHAPE = {
    "num_heads": 4,
    "num_groups": 2,
    "head_dim": 16,
    "dtype": torch.float32,
    "device": CPU,
}


def test_attention_does_without_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = {"triton": choice.GatherBackend, "sdpa": choice.GatherBackend}
    made: list[str] = []

    def maker(name: str) -> object:
        return lambda: made.append(name) or backends[name]()

    monkeypatch.setattr(choice, "_CANDIDATES", {name: maker(name) for name in backends})
    trials.prepare(["attention"])
    choice.choose_attention("auto", **SHAPE)  # type: ignore[arg-type]
    assert made == ["sdpa"]
    with pytest.raises(choice.StartupError, match=r"'triton' does not work.*without_kernels"):
        choice.choose_attention("triton", **SHAPE)  # type: ignore[arg-type]


def test_no_attention_is_chosen_on_a_lost_device(
    monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    monkeypatch.setattr(
        choice, "_CANDIDATES", {"triton": device.take, "sdpa": choice.GatherBackend}
    )
    with pytest.raises(KernelsLost, match="while attention kernels were tried"):
        choice.choose_attention("auto", **SHAPE)  # type: ignore[arg-type]


class Ours(DequantizingKernel):
    pass


@pytest.fixture
def quantized(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(quantized_choice, "WIDTH", 64)
    monkeypatch.setattr(quantized_choice, "FASTEST_FIRST", (DequantizingKernel,))
    monkeypatch.setattr(quantized_choice, "candidates", lambda: (Ours, DequantizingKernel))
    monkeypatch.setattr(quantized_choice, "seconds_of_an_answer", lambda kernel, weight: 1.0)
    yield
    quantized_choice.ranked.cache_clear()
    keeps_its_promise.cache_clear()


@pytest.mark.usefixtures("quantized")
def test_quantised_weights_do_without_what_is_left_out() -> None:
    trials.prepare(["quantized"])
    assert quantized_choice.ranked("int8", CPU) == (DequantizingKernel,)


@pytest.mark.usefixtures("quantized")
def test_no_weights_are_given_kernels_on_a_lost_device(
    monkeypatch: pytest.MonkeyPatch, device: Device
) -> None:
    monkeypatch.setattr(quantized_choice, "seconds_of_an_answer", lambda *_: device.take())
    with pytest.raises(KernelsLost, match="while quantized kernels were tried"):
        quantized_choice.ranked("int4", CPU)
