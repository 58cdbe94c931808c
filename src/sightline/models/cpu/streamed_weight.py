"""Weights of two bytes in the layout of our own kernel, which streams them as memory gives them.

Shapes: I inputs, O outputs; x `[..., I]`.
"""

import torch
from torch import Tensor

from sightline.models.activations import Activation, activate
from sightline.models.cpu.library import kernels
from sightline.models.scratch import Scratch

PLAIN, GATED = 0, 1
# Multiplications for which waking another thread takes longer than it saves.
ONE_THREAD = 1 << 18
_PIECE = 2**16  # numbers that are judged at once, within a core's cache
_scratch = Scratch()


class StreamedWeight:
    """bfloat16 weights that meet fp32 rows and are added up in fp32, in the order of the inputs.

    A row's bits are the same for every number of rows and threads. With `is_gated` the outputs are
    those of `gated` alone.
    """

    takes_any_rows = True

    def __init__(self, weight: Tensor, *, is_gated: bool = False) -> None:
        library = kernels()
        assert library is not None, "ask can_stream first"
        self._library = library
        self._num_outputs, self._num_inputs = weight.shape
        self._is_gated = is_gated
        if is_gated:
            self._num_outputs //= 2
        width = library.panel_width // 2 if is_gated else library.panel_width
        self._num_panels = -(-self._num_outputs // width)
        self._padded = self._num_panels * width
        self._panels = torch.empty(
            self._num_panels * self._num_inputs * library.panel_width, dtype=torch.bfloat16
        )
        self.size_bytes = self._panels.nbytes
        weight = weight.detach().to(torch.bfloat16).contiguous()
        library.lay_out_weights(
            weight.data_ptr(), len(weight), self._num_inputs, is_gated, self._panels.data_ptr()
        )

    @classmethod
    def fit(cls, weight: Tensor, *, is_gated: bool = False) -> "StreamedWeight | None":
        """Pack `weight` `[O, I]` if bfloat16 holds all of it; for `gated`, O is gate and up."""
        if weight.dtype != torch.bfloat16 and not _is_bfloat16(weight.detach()):
            return None
        return cls(weight, is_gated=is_gated)

    def apply(self, x: Tensor, bias: Tensor | None, then: Activation = "none") -> Tensor:
        return activate(self._outputs(x, bias), then).to(x.dtype)

    def times(self, x: Tensor, bias: Tensor | None, factor: Tensor) -> Tensor:
        return self._outputs(x, bias).mul_(factor).to(x.dtype)

    def plus(self, x: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
        if bias is not None:
            return self._outputs(x, bias).add_(residual).to(x.dtype)
        return self._outputs(x, residual).to(x.dtype)

    def gated(self, x: Tensor) -> Tensor:
        """Return silu of the first half of the outputs times the second half."""
        return self._outputs(x, None).to(x.dtype)

    def _outputs(self, x: Tensor, added: Tensor | None) -> Tensor:
        """Return fp32 outputs plus `added`: a row of its own for every row, or one for all."""
        if added is not None and self._padded != self._num_outputs:
            return self._outputs(x, None).add_(added)
        rows = x.to(torch.float32).contiguous()
        num_rows = rows.numel() // self._num_inputs
        if num_rows * self._num_inputs * self._padded <= ONE_THREAD:
            num_threads = 1
        else:
            num_threads = torch.get_num_threads()
        out = torch.empty(*x.shape[:-1], self._padded)
        room = _scratch.take(self._library.room_needed(num_rows, self._num_inputs, num_threads))
        if added is not None:
            added = added.to(torch.float32).contiguous()
        self._library.multiply(
            rows.data_ptr(), num_rows, self._num_inputs, self._panels.data_ptr(),
            self._num_panels, 0 if added is None else added.data_ptr(),
            0 if added is None or added.dim() == 1 else self._padded,
            GATED if self._is_gated else PLAIN, out.data_ptr(), room.data_ptr(), num_threads,
        )  # fmt: skip
        return (
            out if self._padded == self._num_outputs else out[..., : self._num_outputs].contiguous()
        )


def _is_bfloat16(weight: Tensor) -> bool:
    """Whether bfloat16 holds every number."""
    return all(
        torch.equal(piece, piece.bfloat16().to(piece.dtype))
        for piece in torch.split(weight.reshape(-1), _PIECE)
    )
