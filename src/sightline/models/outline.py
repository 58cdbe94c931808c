"""A model's modules and the shapes of its tensors, told from its config.json alone. No torch.

Every family writes its outline in the names of its checkpoints and with the class names of its
original code, so that it reads as people know the model. A test builds the torch modules of every
family and compares both, name by name.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol

from sightline.core.image_policy import ImagePolicy

Shape = tuple[int, ...]
Part = Literal["vision", "connector", "language", "embeddings", "head"]
PARTS: tuple[Part, ...] = ("vision", "connector", "language", "embeddings", "head")


class KVShape(NamedTuple):
    """The keys, or the values, of one token."""

    num_layers: int
    num_groups: int
    head_dim: int


class Patches(NamedTuple):
    """How a tower cuts pictures: pixels along a patch, patches along what becomes one row.

    `merge` is 1 where the number of rows does not depend on the number of patches. `width` and
    `mlp_width` are the tower's. `positions` says how far a picture moves the words after it:
    three places, one for each row, or the longer side in rows.
    """

    side: int
    merge: int
    width: int
    mlp_width: int
    positions: Literal["three", "rows", "longer side"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """One module: its class in the original code, its own tensors, the modules in it.

    `count` > 1 folds modules of equal shape that are numbered from 0 on. `part` holds for
    everything inside that says nothing else.
    """

    kind: str
    tensors: Mapping[str, Shape] = field(default_factory=dict)
    children: Mapping[str, "Outline"] = field(default_factory=dict)
    count: int = 1
    part: Part | None = None
    note: str = ""

    @property
    def num_parameters(self) -> int:
        """Parameters of the module and all inside it, times `count`."""
        own = sum(math.prod(shape) for shape in self.tensors.values())
        return self.count * (own + sum(child.num_parameters for child in self.children.values()))

    def of(self, part: Part) -> "Outline":
        return replace(self, part=part)


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of an outline, or `count` of equal shape; `name` has `*` for their number."""

    name: str
    shape: Shape
    count: int
    part: Part

    @property
    def size(self) -> int:
        """Numbers in one of them."""
        return math.prod(self.shape)


class Blueprint(Protocol):
    """What a family's configuration tells without torch. `prompt_format`: see ModelDescription."""

    @property
    def outline(self) -> Outline: ...

    @property
    def kv_shape(self) -> KVShape: ...

    @property
    def image_policy(self) -> ImagePolicy | None: ...

    @property
    def patches(self) -> Patches | None: ...

    @property
    def max_positions(self) -> int: ...

    @property
    def hidden_size(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def mlp_width(self) -> int: ...


def weights(outline: Outline) -> Iterator[Weight]:
    """Yield every tensor, repeated modules folded."""
    yield from _weights(outline, "", 1, "language")


def tensor_shapes(outline: Outline) -> dict[str, Shape]:
    """Return the shape of every tensor of a checkpoint by its full name, nothing folded."""
    return {
        weight.name.replace("*", str(number)): weight.shape
        for weight in weights(outline)
        for number in range(weight.count)
    }


def _weights(outline: Outline, prefix: str, count: int, part: Part) -> Iterator[Weight]:
    part = outline.part or part
    if outline.count > 1:
        if count > 1:
            raise ValueError("a repeated module inside a repeated module")
        count, prefix = outline.count, f"{prefix}*."
    for name, shape in outline.tensors.items():
        yield Weight(prefix + name, shape, count, part)
    for name, child in outline.children.items():
        yield from _weights(child, f"{prefix}{name}." if name else prefix, count, part)


def linear(inputs: int, outputs: int, *, bias: bool = True) -> Outline:
    tensors: dict[str, Shape] = {"weight": (outputs, inputs)}
    if bias:
        tensors["bias"] = (outputs,)
    return Outline(kind="Linear", tensors=tensors, note=f"{inputs} -> {outputs}")


def table(rows: int, width: int) -> Outline:
    return Outline(kind="Embedding", tensors={"weight": (rows, width)}, note=f"{rows} x {width}")


def rms_norm(width: int, kind: str = "RMSNorm") -> Outline:
    return Outline(kind=kind, tensors={"weight": (width,)}, note=str(width))


def layer_norm(width: int) -> Outline:
    tensors: dict[str, Shape] = {"weight": (width,), "bias": (width,)}
    return Outline(kind="LayerNorm", tensors=tensors, note=str(width))


def convolution(inputs: int, outputs: int, *sides: int, bias: bool = True) -> Outline:
    """A convolution over patches that do not overlap, in as many dimensions as there are sides."""
    tensors: dict[str, Shape] = {"weight": (outputs, inputs, *sides)}
    if bias:
        tensors["bias"] = (outputs,)
    note = f"{inputs} -> {outputs}, patches of {' x '.join(map(str, sides))}"
    return Outline(kind=f"Conv{len(sides)}d", tensors=tensors, note=note)


def group(kind: str, **children: Outline) -> Outline:
    return Outline(kind=kind, children=children)


def stack(count: int, layer: Outline) -> Outline:
    """Equal layers, numbered from 0."""
    if count == 1:
        return Outline(kind="ModuleList", children={"0": layer})
    return Outline(kind="ModuleList", children={"": replace(layer, count=count)})
