"""Memory in huge pages: where they begin, and that nothing else is taken."""

import gc
import mmap
import sys
from pathlib import Path

import pytest
import torch

from sightline.models.cpu.huge_pages import HUGE_PAGE, empty_in_huge_pages

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="pages are asked for as on Linux"),
]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


@pytest.mark.parametrize("count", [1, HUGE_PAGE // 2 - 1, HUGE_PAGE // 2, 3 * HUGE_PAGE + 5])
def test_so_many_numbers_can_be_written_and_large_ones_begin_with_a_page(count: int) -> None:
    numbers = empty_in_huge_pages(count, torch.bfloat16)
    numbers.fill_(2.0)
    assert numbers.shape == (count,)
    assert numbers.sum(dtype=torch.float64) == 2.0 * count
    if numbers.nbytes >= HUGE_PAGE:
        assert numbers.data_ptr() % HUGE_PAGE == 0


def test_they_take_their_size_and_give_it_back() -> None:
    gc.collect()
    before = resident_bytes()
    matrices = [empty_in_huge_pages(HUGE_PAGE + HUGE_PAGE // 2, torch.uint8) for _ in range(40)]
    for matrix in matrices:
        matrix.fill_(1)
    size = sum(matrix.nbytes for matrix in matrices)
    taken = resident_bytes() - before
    assert 0.95 * size < taken < 1.1 * size
    del matrix, matrices
    assert resident_bytes() - before < 0.2 * size


def test_a_system_without_them_gives_small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(mmap.mmap):
        def madvise(self, *_: int) -> None:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(mmap, "mmap", Refusing)
    assert empty_in_huge_pages(HUGE_PAGE, torch.uint8).fill_(7)[-1] == 7
