"""A counter that moves whenever the engine gets on with its work.

A step may be long: a big picture on a slow device takes minutes. So a step counter cannot tell a
slow engine from a hung one; this counter moves with every layer of the model.
"""

from collections.abc import Iterator

from torch import nn

from sightline.models.paged_model import PagedModel


class Pulse:
    """Written by the thread that owns the device, read by any."""

    def __init__(self) -> None:
        self.count = 0

    def beat(self, *_: object) -> None:
        self.count += 1

    def follow(self, model: object) -> None:
        """Beat after every layer: every member of the outermost lists of modules in `model`.

        Where a kernel computes several in one call, beat after that.
        """
        if isinstance(model, nn.Module):
            for layer in _layers(model):
                layer.register_forward_hook(self.beat)
        if isinstance(model, PagedModel) and model.streamed is not None:
            model.streamed.on_progress = self.beat


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)
