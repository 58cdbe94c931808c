"""Random numbers come from a seed and a position and from nothing else."""

from statistics import correlation, fmean

from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.engine.uniform import fresh_seed, uniform


@settings(deadline=None)
@given(seed=st.integers(-(2**63), 2**64 - 1), position=st.integers(0, 2**20))
def test_numbers_are_in_range_and_repeatable(seed: int, position: int) -> None:
    assert 0.0 <= uniform(seed, position) < 1.0
    assert uniform(seed, position) == uniform(seed, position)


def test_the_numbers_are_the_same_in_every_process_and_release() -> None:
    assert uniform(42, 0) == 0.3699975410269012
    assert uniform(-1, 7) == 0.883711868884338


def test_numbers_are_uniform() -> None:
    numbers = [uniform(7, position) for position in range(10_000)]
    assert abs(fmean(numbers) - 0.5) < 0.01
    counts = [sum(int(n * 10) == tenth for n in numbers) for tenth in range(10)]
    assert all(900 < count < 1100 for count in counts)


def test_neighbouring_seeds_and_positions_have_nothing_in_common() -> None:
    a = [uniform(1, position) for position in range(5_000)]
    b = [uniform(2, position) for position in range(5_000)]
    shifted = [uniform(1, position + 1) for position in range(5_000)]
    assert abs(correlation(a, b)) < 0.05
    assert abs(correlation(a, shifted)) < 0.05


def test_fresh_seeds_differ() -> None:
    assert len({fresh_seed() for _ in range(100)}) == 100
