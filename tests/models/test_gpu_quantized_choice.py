"""Which kernels multiply with quantised weights on a GPU; the clock says what it is told."""

from collections.abc import Iterator

import pytest
import torch

from sightline.models.gpu import quantized_choice
from sightline.models.quantized import QuantizedWeight
from sightline.models.quantized_kernels import (
    DequantizingKernel,
    Kernel,
    choose_kernel,
    keeps_its_promise,
)

pytestmark = pytest.mark.engine
CPU = torch.device("cpu")


class Slow(DequantizingKernel):
    pass


class Fast(DequantizingKernel):
    pass


class Broken(DequantizingKernel):
    """Right, but not at the size that is timed."""


class Wrong(DequantizingKernel):
    def product(self, rows: torch.Tensor) -> torch.Tensor:
        return super().product(rows) * 1.05


class OnlyOthers(DequantizingKernel):
    @classmethod
    def suits(cls, weight: QuantizedWeight) -> bool:
        return False


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def seconds(kernel: type[Kernel], weight: QuantizedWeight) -> float:
        if kernel is Broken:
            raise RuntimeError("out of resources")
        return {Slow: 2.0, Fast: 1.0}[kernel]

    monkeypatch.setattr(quantized_choice, "WIDTH", 64)
    monkeypatch.setattr(quantized_choice, "seconds_of_an_answer", seconds)
    yield
    quantized_choice.ranked.cache_clear()
    keeps_its_promise.cache_clear()


def test_the_fastest_of_those_that_are_right_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        quantized_choice, "candidates", lambda: (Wrong, Slow, Broken, OnlyOthers, Fast)
    )
    for scheme in ("int8", "int4"):
        assert quantized_choice.ranked(scheme, CPU) == (Fast, Slow)


def test_where_none_works_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantized_choice, "candidates", lambda: (Wrong, OnlyOthers))
    assert quantized_choice.ranked("int8", CPU) == ()


def test_our_own_are_among_them_where_triton_is() -> None:
    pytest.importorskip("triton")
    assert quantized_choice.candidates()[0].__name__ == "StoredKernel"


def test_a_weight_is_given_to_the_first_that_suits(monkeypatch: pytest.MonkeyPatch) -> None:
    from sightline.models import quantized_kernels
    from sightline.models.quantized import quantize

    monkeypatch.setattr(quantized_kernels, "_fastest_first", lambda *_: (OnlyOthers, Fast, Slow))
    assert type(choose_kernel(quantize(torch.ones(4, 64), "int8"))) is Fast
