"""What tests of the engine share."""

from collections.abc import Iterator

import pytest
from torch_threads import torch_threads


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """The models here are so small that a second thread only makes times uneven."""
    with torch_threads(1):
        yield
