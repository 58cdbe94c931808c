from collections.abc import Iterator

import pytest
from front import Front, serving


@pytest.fixture(scope="session")
def shared_front() -> Iterator[Front]:
    with serving(Front()) as front:
        yield front


@pytest.fixture(scope="session")
def good_answer(shared_front: Front) -> object:
    return shared_front.canary()


@pytest.fixture
def front(shared_front: Front, good_answer: object) -> Iterator[Front]:
    """A server for hostile input: after each test it must answer as if nothing had happened."""
    yield shared_front
    assert shared_front.canary() == good_answer
    assert shared_front.get("/health/ready").status_code == 200
    assert shared_front.is_idle()
