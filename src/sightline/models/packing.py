"""Giving a model's linear layers to the kernels that are best for them on this machine.

All at once (`pack_linears`), or each as soon as its weight has been read (`settle`, in `loading`).
"""

from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import nn

from sightline.models.cores import on_each_core
from sightline.models.cpu import between
from sightline.models.cpu.between import can_norm
from sightline.models.host_memory import return_freed
from sightline.models.linear import LayerNorm, Linear, Norm
from sightline.models.packed_weight import can_round, is_faster_in_float32

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class ChoosesRows(Protocol):
    """A model whose rows may be wider than its weights, and which pads them if need be."""

    pads_rows: bool
    encodes_as_team: bool

    @property
    def tower(self) -> nn.Module | None: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def widen_rows(self) -> None:
        """Compute in float32 from now on."""
        ...


@runtime_checkable
class HasDecoder(Protocol):
    """A model with layers that may be streamed together."""

    def stream_decoder(self) -> None:
        """Let one kernel run all layers, where each is packed for it."""
        ...


def pack_linears(model: object, dtype: torch.dtype | None = None) -> None:
    """Make every `Linear` of a model on the CPU independent of company, and fast if possible.

    `dtype` is that of the rows; None: of each layer's own weight. On other devices, and in number
    formats that the packed kernel does not know, only quantised matrices get their kernels. The
    model is for inference only afterwards, and its weights cannot be read back. Layers that have
    been settled, by an earlier call or by `settle`, stay as they are.
    """
    whole = model if isinstance(model, ChoosesRows) and model.device.type == "cpu" else None
    if whole is not None:
        found = dtype or whole.dtype
        if (rows := tell_rows(whole, found)) != found:
            whole.widen_rows()
            dtype = rows
    on_each_core(partial(settle, dtype=dtype), _layers(model))
    for norm in _modules(model, Norm):
        if can_norm(norm.weight):
            norm.kernel = between.rms_norm
    for layer_norm in _modules(model, LayerNorm):
        if can_norm(layer_norm.weight, layer_norm.bias):
            layer_norm.kernel = between.layer_norm
    if whole is not None:
        tower = set(_layers(whole.tower))
        whole.pads_rows = not all(
            layer.is_fast_for_any_rows for layer in _layers(whole) if layer not in tower
        )
        # Its attention is our own only where it may round rows.
        whole.encodes_as_team = bool(tower) and all(
            layer.is_streamed and layer.rounds_rows for layer in tower
        )
    if isinstance(model, HasDecoder):
        model.stream_decoder()
    return_freed()


def tell_rows(model: object, dtype: torch.dtype) -> torch.dtype:
    """Tell each layer of a model on the CPU which rows it will meet; return their number format.

    `dtype` is the model's. Weights stay as narrow as they are where rows are better kept in
    float32.
    """
    if not isinstance(model, ChoosesRows):
        return dtype
    if dtype == torch.bfloat16 and (can_round() or is_faster_in_float32(dtype)):
        for layer in _layers(model):
            layer.rounds_rows = can_round()
        return torch.float32
    for layer in _layers(model.tower):
        layer.has_many_rows = True
    return dtype


@torch.inference_mode()
def settle(layer: Linear, dtype: torch.dtype | None) -> None:
    """Give a layer on the CPU to its kernel; it must have been told its rows, of `dtype`.

    Every layer once, but from any thread.
    """
    if layer.quantized is not None:
        layer.choose_kernel()
        return_freed()  # or the matrices before and behind it would both be held
    if layer.weight is None or layer.weight.device.type != "cpu":
        return
    wanted = dtype or layer.weight.dtype
    if layer.pack(wanted):
        return
    layer.convert(wanted)
    if wanted == torch.float32:
        layer.tile()


def has_streamed(model: object) -> bool:
    """Whether our own kernels have any matrix of a model whose linear layers are packed."""
    return any(layer.is_streamed for layer in _layers(model))


def _layers(module: object) -> list[Linear]:
    return _modules(module, Linear)


def _modules(module: object, kind: type[M]) -> list[M]:
    modules = module.modules() if isinstance(module, nn.Module) else ()
    return [each for each in modules if isinstance(each, kind)]
