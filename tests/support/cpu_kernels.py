"""What of our own kernels this machine can run."""

import pytest

from sightline.models.cpu.compiled import kernels

_library = kernels()

needs_bfloat16_products = pytest.mark.skipif(
    _library is None or _library.rounded_products is None,
    reason="this processor does not multiply bfloat16, or there was no compiler",
)
