"""Hostile requests against a server of our own: nothing may happen but refusals."""

import pytest
from tests.abuse.__main__ import run_own

SAMPLE_STEP = 31
LEAST_REQUESTS = 1000


@pytest.mark.live
def test_a_sample_of_all_hostile_requests_is_survived():
    report = run_own(step=SAMPLE_STEP)
    assert report.num_sent > 100
    assert report.is_clean, "\n".join(report.lines())


@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_all_hostile_requests_are_survived():
    report = run_own()
    print("\n".join(report.lines()))
    assert report.num_sent >= LEAST_REQUESTS
    assert report.is_clean, "\n".join(report.lines())
