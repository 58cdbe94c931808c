"""Kernels of a step that start while the one before them still runs.

Between two kernels of a stream a GPU is idle for a microsecond or two, and a step of GLM-4V-9B
has 240 of them. From compute capability 9.0 on a kernel can be launched as one that depends on
the one before (CUDA's programmatic dependent launch): its programs start as soon as all of the
other's have, and wait by themselves before they touch anything that was computed. What they may do
earlier is to call for weights, which nobody writes.

A kernel that is launched so begins with `begin`, in every program. Then it may be followed by any
other: a kernel is only over when what it waited for is. Importing this module needs Triton.
"""

import triton
import triton.language as tl
from torch import device as Device
from torch.cuda import get_device_capability

try:
    from triton.backends.nvidia.compiler import CUDAOptions
except ImportError:  # a Triton for other makers' cards
    IS_KNOWN = False
else:
    # From Triton 3.4 on. Its own names for the two instructions do not compile there.
    IS_KNOWN = hasattr(CUDAOptions, "launch_pdl")
LEAST_CAPABILITY = (9, 0)
_CALL = tl.constexpr(
    "{.reg .pred is_first; .reg .u32 thread; mov.u32 thread, %tid.x;"
    " setp.eq.u32 is_first, thread, 0;"
    " @is_first cp.async.bulk.prefetch.L2.global [$1], $2; mov.u32 $0, 0;}"
)


def is_possible(device: Device) -> bool:
    return IS_KNOWN and get_device_capability(device) >= LEAST_CAPABILITY


def options(*, is_dependent: bool) -> dict[str, bool]:
    """Return how to launch a kernel with `IS_DEPENDENT`. An older Triton does not know the word."""
    return {"IS_DEPENDENT": is_dependent} | ({"launch_pdl": True} if is_dependent else {})


@triton.jit
def begin():
    """Let the next kernel start, and wait until all that was queued before this one is done."""
    tl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; mov.u32 $0, 0;",
        "=r", [], dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip
    tl.inline_asm_elementwise(
        "griddepcontrol.wait; mov.u32 $0, 0;",
        "=r", [], dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip


@triton.jit
def call_for(matrix, FIRST_BYTE: tl.constexpr, STEP: tl.constexpr, MOST: tl.constexpr,
             END: tl.constexpr):  # fmt: skip
    """Let the L2 cache load a program's first bytes of `matrix`, at most MOST of them.

    Those of the first program begin at FIRST_BYTE, each next one's STEP behind. All end at END.
    All are multiples of 16.
    """
    first = FIRST_BYTE + tl.program_id(0).to(tl.int64) * STEP
    number = tl.minimum(MOST, END - first).to(tl.int32)
    tl.inline_asm_elementwise(
        _CALL, "=r,l,r", [matrix.to(tl.int64) + first, number],
        dtype=tl.int32, is_pure=False, pack=1,
    )  # fmt: skip
