"""What of our own kernels this machine can run."""

import pytest
import torch

from sightline.models.cpu.compiled import kernels
from sightline.models.packed_weight import can_round, is_faster_in_float32

_library = kernels()

needs_bfloat16_products = pytest.mark.skipif(
    _library is None or _library.rounded_products is None,
    reason="this processor does not multiply bfloat16, or there was no compiler",
)
needs_rounded_rows = pytest.mark.skipif(
    not can_round(), reason="rows of bfloat16 are not multiplied by our own kernels here"
)
needs_own_bfloat16 = pytest.mark.skipif(
    _library is None or not (can_round() or is_faster_in_float32(torch.bfloat16)),
    reason="models of bfloat16 are not computed by our own kernels here (AMX, or no compiler)",
)
