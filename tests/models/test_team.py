"""Threads that stay together: nothing depends on who of them comes, and when."""

import ctypes
import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cpu_kernels import needs_rounded_rows
from torch import Tensor
from torch_threads import torch_threads

from sightline.models.cpu import compiled, team
from sightline.models.cpu.compiled import Kernels, kernels
from sightline.models.cpu.streamed_weight import StreamedWeight
from sightline.models.cpu.team import as_team
from sightline.models.loading import load_model
from sightline.models.packing import pack_linears

GOLDEN = Path(__file__).parents[1] / "data" / "golden"

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(kernels() is None, reason="our own kernels were not compiled"),
]


def products(rows: int, inputs: int = 300) -> Callable[[], Tensor]:
    random = torch.Generator().manual_seed(rows)
    weight = StreamedWeight(torch.randn(700, inputs, generator=random).bfloat16())
    x = torch.randn(rows, inputs, generator=random)
    return lambda: weight.apply(x, None)


def alone(work: Callable[[], Tensor]) -> Tensor:
    with torch_threads(1):
        return work()


@pytest.mark.parametrize("rows", [1, 7, 30, 300])
@pytest.mark.parametrize("threads", [2, 3, 16])
def test_a_team_gives_what_one_thread_gives(rows: int, threads: int) -> None:
    """Sixteen on few cores: some lose theirs in the middle of a piece."""
    work = products(rows)
    with torch_threads(threads):
        found = as_team(lambda: [work() for _ in range(40)])
    expected = alone(work)
    assert all(torch.equal(each, expected) for each in found)


@pytest.mark.parametrize("rows", [1, 30, 300])
def test_who_never_comes_is_not_waited_for(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = compiled.kind_of_processor()
    assert kind is not None
    copy = shutil.copy(compiled.path_of(kind), tmp_path)
    library = Kernels(Path(copy))
    region = ctypes.CFUNCTYPE(None, *(ctypes.c_void_p,) * 2, *(ctypes.c_uint,) * 2)
    number = ctypes.CFUNCTYPE(ctypes.c_int)
    only_the_first = region(
        lambda work, data, *_: ctypes.CFUNCTYPE(None, ctypes.c_void_p)(work)(data)
    )
    pretended = (only_the_first, number(lambda: 0), number(lambda: 4))
    ctypes.CDLL(copy).use_threads(*pretended)
    expected = alone(products(rows))
    monkeypatch.setattr("sightline.models.cpu.streamed_weight.kernels", lambda: library)
    monkeypatch.setattr(team, "kernels", lambda: library)
    with torch_threads(4):
        assert torch.equal(as_team(products(rows)), expected)


def test_a_team_within_a_team_is_the_same_team() -> None:
    work = products(300)
    with torch_threads(3):
        found = as_team(lambda: [*as_team(lambda: [work(), as_team(work)]), work()])
    assert all(torch.equal(each, alone(work)) for each in found)


class Fenced:
    """Memory behind which lies some that nobody may write to."""

    def __init__(self) -> None:
        self.behind: list[Tensor] = []

    def address(self, count: int) -> int:
        numbers = torch.full((2 * count,), 7.0)
        self.behind.append(numbers[count:])
        return numbers.data_ptr()


def test_who_there_is_no_room_for_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OMP_NUM_THREADS=4,2 torch has four threads, and says two in a team of them."""
    fenced = Fenced()
    monkeypatch.setattr("sightline.models.cpu.streamed_weight._scratch", fenced)
    # Wide enough for sums to be left in the room and taken up again.
    work = products(40, inputs=2100)

    def work_of_two() -> list[Tensor]:
        with torch_threads(2):
            return [work() for _ in range(40)]

    with torch_threads(4):
        found = as_team(work_of_two)
    assert all((each == 7).all() for each in fenced.behind)
    expected = alone(work)
    assert all(torch.equal(each, expected) for each in found)


def test_what_is_raised_in_a_team_comes_out_of_it() -> None:
    def fail() -> None:
        raise ValueError("not today")

    with torch_threads(2):
        with pytest.raises(ValueError, match="not today"):
            as_team(fail)
        assert torch.equal(as_team(products(3)), alone(products(3)))


def test_what_a_team_held_that_failed_is_given_back_at_once() -> None:
    held = []

    def fail() -> None:
        rows = torch.zeros(3)
        held.append(weakref.ref(rows))
        raise MemoryError

    gc.disable()
    try:
        with torch_threads(2), pytest.raises(MemoryError) as raised:
            as_team(fail)
        del raised
        assert held[0]() is None
    finally:
        gc.enable()


@needs_rounded_rows
@pytest.mark.parametrize("folder", ["glm4v-a", "qwenvl-a-one-image"])
def test_pictures_are_encoded_by_a_team_where_nearly_all_work_is_our_own(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(GOLDEN / folder, dtype="bfloat16", device="cpu")
    model, policy = loaded.model, loaded.description.image_policy
    assert policy is not None
    pack_linears(model)
    width, height = policy.target_size(100, 100)
    pixels = torch.randint(0, 255, (1, height, width, 3), dtype=torch.uint8)
    num_teams = []
    monkeypatch.setattr(
        "sightline.models.paged_model.as_team", lambda work: num_teams.append(1) or as_team(work)
    )
    with torch_threads(3), torch.inference_mode():
        found = model.encode_images(pixels)
    assert num_teams == [1]
    with torch_threads(1), torch.inference_mode():
        torch.testing.assert_close(model.encode_images(pixels), found)
