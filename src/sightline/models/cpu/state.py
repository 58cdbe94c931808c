"""Which kernels a processor is given, for `sightline doctor` and the log of an engine."""

from dataclasses import dataclass
from typing import Literal

import torch

from sightline.models.cpu.compiled import kind_of_processor, load
from sightline.models.cpu.paged_attention import can_attend
from sightline.models.packed_weight import can_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelState:
    """Whether our own kernels are used, or why torch's are.

    `kind` is the library for this processor, empty if none is made for it (`foreign`); `problem`
    is why one that is there is `unusable`.
    """

    state: Literal["ours", "not_compiled", "unusable", "foreign"]
    kind: str = ""
    problem: str = ""

    def __str__(self) -> str:
        match self.state:
            case "ours":
                return f"our own ({self.kind})"
            case "not_compiled":
                return "torch's (ours were not compiled)"
            case "unusable":
                return f"torch's (ours cannot be used: {self.problem})"
            case "foreign":
                return "torch's (there are none of ours for this machine)"


def kernel_state() -> KernelState:
    """Look for the library, and try what is trusted to compute what torch's kernels do."""
    kind = kind_of_processor()
    if kind is None:
        return KernelState(state="foreign")
    try:
        if load(kind) is None:
            return KernelState(state="not_compiled", kind=kind)
    except (OSError, AttributeError) as error:
        return KernelState(state="unusable", kind=kind, problem=str(error))
    if not (can_stream() and can_attend(torch.bfloat16)):
        return KernelState(state="unusable", kind=kind, problem="they compute something else")
    return KernelState(state="ours", kind=kind)
