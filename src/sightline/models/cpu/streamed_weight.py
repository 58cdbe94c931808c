"""Weights in the layouts of our own kernels, which stream them as memory gives them.

A row's bits are the same for every number of rows and threads; see `panels.h`,
`whole_products.c` and `group_products.c`.

Shapes: I inputs, O outputs; x `[..., I]`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sightline.models.activations import Activation, activate
from sightline.models.cpu.compiled import Kernels, Matrix, kernels
from sightline.models.cpu.huge_pages import empty_in_huge_pages
from sightline.models.quantized import QuantizedWeight
from sightline.models.scratch import Scratch

GATED = 1
ENDINGS: dict[Activation, int] = {"none": 0, "swish": 2, "gelu": 3, "quick_gelu": 4}
# A little below the largest float16, so that sums of rounded numbers stay finite.
LARGEST_HALF = 65504.0 - 1000.0
# Products of bytes, 255 * 128 at most, whose sum 32 bits hold.
MOST_WHOLE_INPUTS = 2**16
_PIECE = 2**16  # numbers that are judged at once, within a core's cache
_scratch = Scratch()


class Streamed(ABC):
    """What `PackedWeight` and `GatedWeight` promise, around one call of a kernel."""

    takes_any_rows = True
    size_bytes: int

    def __init__(self, num_outputs: int, num_inputs: int, panel_width: int) -> None:
        """The kernel writes whole panels of outputs."""
        self._num_outputs, self._num_inputs = num_outputs, num_inputs
        self._num_panels = -(-num_outputs // panel_width)
        self._padded = self._num_panels * panel_width

    def apply(self, x: Tensor, bias: Tensor | None, then: Activation = "none") -> Tensor:
        return _like(self._outputs(x, bias, then), x)

    def times(self, x: Tensor, bias: Tensor | None, factor: Tensor) -> Tensor:
        return _like(self._outputs(x, bias).mul_(factor), x)

    def plus(self, x: Tensor, bias: Tensor | None, residual: Tensor) -> Tensor:
        return _like(self._outputs(x, bias, residual=residual), x)

    @abstractmethod
    def gated(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def matrix(self) -> Matrix | None:
        """Return what `StreamedDecoder` is told of it; None where outputs do not fill panels."""

    @abstractmethod
    def _multiply(
        self, rows: Tensor, num_rows: int, bias: int, residual: int, ending: int, out: Tensor,
        num_threads: int,
    ) -> None: ...  # fmt: skip

    def _matrix(self, panels: Tensor, scales: Tensor | None = None) -> Matrix | None:
        if self._padded != self._num_outputs:
            return None
        return Matrix(
            panels.data_ptr(), None if scales is None else scales.data_ptr(), None,
            self._num_inputs, self._num_panels, self._num_outputs, False, False,
        )  # fmt: skip

    def _outputs(
        self,
        x: Tensor,
        bias: Tensor | None,
        then: Activation = "none",
        *,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Return fp32 outputs plus `bias` `[O]` and `residual` `[..., O]`."""
        # The kernel would read and write whatever lies behind memory that is too small.
        if x.shape[-1] != self._num_inputs or not x.is_cpu:
            raise ValueError(
                f"rows of {self._num_inputs} on the CPU are wanted, not {x.shape} on {x.device}"
            )
        shape = (*x.shape[:-1], self._num_outputs)
        if residual is not None and residual.shape != shape:
            residual = residual.expand(shape)
        if self._padded != self._num_outputs:
            out = self._product(x, 0, 0, "none")[..., : self._num_outputs].contiguous()
            for more in (bias, residual):
                out = out if more is None else out.add_(more)
            return activate(out, then)
        bias, residual = (None if more is None else _plain(more) for more in (bias, residual))
        return self._product(x, _address(bias), _address(residual), then)

    def _product(self, x: Tensor, bias: int, residual: int, then: Activation) -> Tensor:
        """Return `[..., padded O]`; memory lies at `bias` and `residual`, or 0."""
        rows = _plain(x)
        num_rows = rows.numel() // self._num_inputs
        out = rows.new_empty(*x.shape[:-1], self._padded)
        num_threads = torch.get_num_threads()
        self._multiply(rows, num_rows, bias, residual, ENDINGS[then], out, num_threads)
        return out


class StreamedWeight(Streamed):
    """bfloat16 weights that meet fp32 rows and are added up in fp32, in the order of the inputs.

    With `is_gated` the outputs are those of `gated` alone. With `rounds_rows` rows are rounded to
    bfloat16 first: twice as fast from some rows on, where `can_round`.
    """

    def __init__(
        self, weight: Tensor, *, is_gated: bool = False, rounds_rows: bool = False
    ) -> None:
        library = _library()
        num_all, num_inputs = weight.shape
        self._is_gated, self._rounds_rows = is_gated, rounds_rows
        products = library.rounded_products if rounds_rows else library.products
        assert products is not None, "ask can_round first"
        self._products = products
        super().__init__(
            num_all // 2 if is_gated else num_all, num_inputs,
            library.panel_width // 2 if is_gated else library.panel_width,
        )  # fmt: skip
        laid_out = num_inputs + num_inputs % 2 if rounds_rows else num_inputs
        self._panels = empty_in_huge_pages(
            self._num_panels * laid_out * library.panel_width, torch.bfloat16
        )
        self.size_bytes = self._panels.nbytes
        weight = weight.detach().to(torch.bfloat16).contiguous()
        products.lay_out(weight.data_ptr(), num_all, num_inputs, is_gated, self._panels.data_ptr())

    @classmethod
    def fit(
        cls, weight: Tensor, *, is_gated: bool = False, rounds_rows: bool = False
    ) -> "StreamedWeight | None":
        """Pack `weight` `[O, I]` if bfloat16 holds all of it; for `gated`, O is gate and up."""
        if weight.dtype != torch.bfloat16 and not _is_bfloat16(weight.detach()):
            return None
        return cls(weight, is_gated=is_gated, rounds_rows=rounds_rows)

    def gated(self, x: Tensor) -> Tensor:
        return _like(self._outputs(x, None), x)

    def matrix(self) -> Matrix | None:
        matrix = self._matrix(self._panels)
        if matrix is not None:
            matrix.rounds_rows = self._rounds_rows
        return matrix

    def _multiply(
        self, rows: Tensor, num_rows: int, bias: int, residual: int, ending: int, out: Tensor,
        num_threads: int,
    ) -> None:  # fmt: skip
        products = self._products
        room = _scratch.address(products.room(num_rows, self._num_inputs, num_threads))
        products.multiply(
            rows.data_ptr(), num_rows, self._num_inputs, self._panels.data_ptr(),
            self._num_panels, bias, residual, self._padded, GATED if self._is_gated else ending,
            out.data_ptr(), self._padded, room, num_threads,
        )  # fmt: skip


class StreamedNumbers(Streamed):
    """Quantised weights that meet rows rounded to 16 bits, by whole numbers."""

    _library: Kernels

    @staticmethod
    def of(weight: QuantizedWeight) -> "StreamedNumbers":
        return StreamedIntegers(weight) if weight.scheme == "int8" else StreamedGroups(weight)

    @staticmethod
    def suits(weight: QuantizedWeight) -> bool:
        library = kernels()
        return (
            weight.values.device.type == "cpu"
            and (weight.scheme == "int4" or weight.num_inputs <= MOST_WHOLE_INPUTS)
            and library is not None
            and library.has_whole_products
        )

    @property
    def can_gate(self) -> bool:
        """Whether gates are whole vectors, as `gated` has to have them."""
        return self._num_outputs % (2 * self._library.head_multiple) == 0

    def gated(self, x: Tensor) -> Tensor:
        both = self._outputs(x, None)
        width = self._num_outputs // 2
        out = both.new_empty(*x.shape[:-1], width)
        self._library.gate_rows(
            both.data_ptr(), out.numel() // width, width, out.data_ptr(), torch.get_num_threads()
        )
        return _like(out, x)


class StreamedIntegers(StreamedNumbers):
    """int8 weights: whole sums, which are exact."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self._library = library = _library()
        num_outputs, num_inputs = weight.values.shape
        super().__init__(num_outputs, num_inputs, library.head_multiple)
        self._panels = empty_in_huge_pages(self._padded * (-(-num_inputs // 4) * 4), torch.uint8)
        self._scales = torch.zeros(self._padded, dtype=torch.float32)
        self._scales[:num_outputs] = weight.scales
        self.size_bytes = weight.size_bytes
        values = weight.values.contiguous()
        library.lay_out_whole_weights(
            values.data_ptr(), num_outputs, num_inputs, self._panels.data_ptr()
        )

    def matrix(self) -> Matrix | None:
        return self._matrix(self._panels, self._scales)

    def _multiply(
        self, rows: Tensor, num_rows: int, bias: int, residual: int, ending: int, out: Tensor,
        num_threads: int,
    ) -> None:  # fmt: skip
        library = self._library
        room = _scratch.address(library.whole_room(num_rows, self._num_inputs))
        library.multiply_whole(
            rows.data_ptr(), num_rows, self._num_inputs, self._panels.data_ptr(),
            self._num_panels, self._scales.data_ptr(), bias, residual, self._padded, ending,
            out.data_ptr(), self._padded, room, num_threads,
        )  # fmt: skip


class StreamedGroups(StreamedNumbers):
    """int4 weights: whole sums within a group, which fp32 adds up in the groups' order."""

    def __init__(self, weight: QuantizedWeight) -> None:
        self._library = library = _library()
        num_outputs, num_inputs = weight.num_outputs, weight.num_inputs
        super().__init__(num_outputs, num_inputs, library.head_multiple)
        self.size_bytes = self._padded * weight.size_bytes // num_outputs
        self._panels = empty_in_huge_pages(self.size_bytes, torch.uint8)
        values, scales = weight.values.contiguous(), weight.scales.contiguous()
        library.lay_out_group_weights(
            values.data_ptr(), scales.data_ptr(), num_outputs, num_inputs, self._panels.data_ptr()
        )

    def matrix(self) -> Matrix | None:
        matrix = self._matrix(self._panels)
        if matrix is not None:
            matrix.is_grouped = True
        return matrix

    def _multiply(
        self, rows: Tensor, num_rows: int, bias: int, residual: int, ending: int, out: Tensor,
        num_threads: int,
    ) -> None:  # fmt: skip
        library = self._library
        room = _scratch.address(library.groups_room(num_rows, self._num_inputs))
        library.multiply_groups(
            rows.data_ptr(), num_rows, self._num_inputs, self._panels.data_ptr(),
            self._num_panels, bias, residual, self._padded, ending, out.data_ptr(), self._padded,
            room, num_threads,
        )  # fmt: skip


def _library() -> Kernels:
    library = kernels()
    assert library is not None, "ask can_stream first"
    return library


def _plain(x: Tensor) -> Tensor:
    """In fp32, row behind row."""
    if x.dtype != torch.float32:
        x = x.to(torch.float32)
    return x if x.is_contiguous() else x.contiguous()


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _like(out: Tensor, x: Tensor) -> Tensor:
    """In the number format of the rows; what float16 cannot hold is bounded."""
    if x.dtype == torch.float32:
        return out
    if x.dtype == torch.float16:
        out.clamp_(-LARGEST_HALF, LARGEST_HALF)
    return out.to(x.dtype)


def _is_bfloat16(weight: Tensor) -> bool:
    """Whether bfloat16 holds every number."""
    return all(
        torch.equal(piece, piece.bfloat16().to(piece.dtype))
        for piece in torch.split(weight.reshape(-1), _PIECE)
    )
