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

try:  # from Triton 3.4 on
    from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

    IS_KNOWN = True
except ImportError:
    IS_KNOWN = False

    @triton.jit
    def gdc_launch_dependents():
        pass

    @triton.jit
    def gdc_wait():
        pass


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
    gdc_launch_dependents()
    gdc_wait()


@triton.jit
def call_for(matrix, first_byte, NUM_BYTES: tl.constexpr, TOTAL_BYTES: tl.constexpr):
    """Let the L2 cache load some bytes of `matrix` from `first_byte` on, as far as it has them.

    Places and numbers must be multiples of 16.
    """
    number = tl.minimum(NUM_BYTES, TOTAL_BYTES - first_byte).to(tl.int32)
    place = matrix.to(tl.int64) + first_byte
    tl.inline_asm_elementwise(
        _CALL, "=r,l,r", [place, number], dtype=tl.int32, is_pure=False, pack=1
    )
