"""Which weights are quantised, how, and what they take. No torch: the front and the hub ask, too.

Matrices of linear layers are quantised; embedding tables, convolutions, norms and biases are not.
int8 has one scale per output. int4 has a scale and a zero per `GROUP_SIZE` inputs of an output. An
output head chooses between almost equal tokens, so it is never below int8.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sightline.core.errors import StartupError, shorten
from sightline.models.hub_config import ConfigReader

Scheme = Literal["int8", "int4"]

GROUP_SIZE = 32
CONFIG_KEY = "quantization_config"
METHOD = "sightline"
SCALES_SUFFIX = "_scales"

_SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
_NONE = "none"
_VISION = ("transformer.vision.", "transformer.visual.", "visual.")
_HEADS = ("transformer.output_layer.weight", "lm_head.weight")
_TABLES = (
    "transformer.embedding.word_embeddings.weight",
    "transformer.vision.patch_embedding.position_embedding.weight",
    "transformer.wte.weight",
    "model.embed_tokens.weight",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """What is done to either part of a model. None leaves a part in the model's number format.

    `is_text_only`: of a model that has no part for pictures, so nothing is said of it.
    """

    language: Scheme | None = None
    vision: Scheme | None = None
    is_text_only: bool = False

    def __bool__(self) -> bool:
        return self.language is not None or self.vision is not None

    def __str__(self) -> str:
        if self.is_text_only or self.language == self.vision:
            return self.language or _NONE
        return f"{self.language or _NONE}, vision {self.vision or _NONE}"

    def of_model(self, *, sees: bool) -> "Quantization":
        """Return what is done to a model that sees pictures, or to one that does not."""
        return self if sees else Quantization(language=self.language, is_text_only=True)

    def scheme(self, name: str, shape: Sequence[int]) -> Scheme | None:
        """Return what becomes of the parameter that the hub calls `name`."""
        is_vision = name.startswith(_VISION)
        wanted = self.vision if is_vision else self.language
        if wanted is None or not is_matrix(name, shape):
            return None
        fits = shape[1] % GROUP_SIZE == 0
        return wanted if wanted == "int8" or (fits and name not in _HEADS) else "int8"

    def schemes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Scheme]:
        """Return the schemes of those parameters that are quantised."""
        found = {name: self.scheme(name, shape) for name, shape in shapes.items()}
        return {name: scheme for name, scheme in found.items() if scheme is not None}

    def to_config(self) -> dict[str, Any]:
        """Return the entry that marks a folder as quantised, under `CONFIG_KEY`."""
        return {
            "quant_method": METHOD,
            "language": self.language or _NONE,
            "vision": self.vision or _NONE,
            "group_size": GROUP_SIZE,
        }


NO_QUANTIZATION = Quantization()


def choose_quantization(language: str | None, vision: str | None) -> Quantization:
    """Return what was asked for: none, int8, int4; None leaves the choice to us.

    Vision is left as it is beside an int8 language model, and is int8 beside int4.
    """
    if vision is None:
        vision = "int8" if language == "int4" else None
    return Quantization(language=_scheme(language), vision=_scheme(vision))


def wanted_quantization(language: str | None, vision: str | None) -> Quantization | None:
    """Return what two options ask for together; None if neither was given."""
    if language is None and vision is None:
        return None
    return choose_quantization(language, vision)


def stored_quantization(config: Mapping[str, Any]) -> Quantization | None:
    """Return how the weights beside a config.json are quantised; None if they are not by us.

    Raises StartupError for an entry of ours that is damaged.
    """
    if not config.get(CONFIG_KEY):
        return None
    reader = ConfigReader(config, "config.json").section(CONFIG_KEY)
    if reader is None or reader.values.get("quant_method") != METHOD:
        return None
    for key in ("language", "vision"):
        if reader.values.get(key) not in (_NONE, *_SCHEMES):
            raise reader.refusal(key, ", ".join((_NONE, *_SCHEMES)))
    if reader.integer("group_size", high=4096) != GROUP_SIZE:
        raise reader.refusal("group_size", str(GROUP_SIZE))
    return choose_quantization(reader.values["language"], reader.values["vision"])


def refuse_foreign(reader: ConfigReader) -> None:
    """Raise StartupError for a config.json of weights that others have quantised."""
    if reader.values.get(CONFIG_KEY) in (None, False):
        return
    if stored_quantization(reader.values) is None:
        raise reader.refusal(CONFIG_KEY, "a folder without it, or one of `sightline quantize`")


def is_matrix(name: str, shape: Sequence[int]) -> bool:
    """Whether this parameter is the weight of a linear layer."""
    return name.endswith(".weight") and len(shape) == 2 and name not in _TABLES


def weight_bytes(
    name: str, shape: Sequence[int], quantization: Quantization, *, itemsize: int = 2
) -> int:
    """Return the bytes of a parameter in memory, scales included.

    `itemsize` is what an element takes that is not quantised.
    """
    scheme = quantization.scheme(name, shape)
    if scheme is None:
        return math.prod(shape) * itemsize
    return quantized_bytes(shape, scheme)


def quantized_bytes(shape: Sequence[int], scheme: Scheme) -> int:
    """Return the bytes of a quantised matrix `[O, I]` and its scales."""
    num_outputs, num_inputs = shape
    if scheme == "int8":
        return num_outputs * (num_inputs + 4)
    return num_outputs * (num_inputs // 2 + num_inputs // GROUP_SIZE * 4)


def _scheme(value: str | None) -> Scheme | None:
    if value in (None, _NONE):
        return None
    for scheme in _SCHEMES:
        if value == scheme:
            return scheme
    raise StartupError(f"{shorten(str(value))!r} is not one of none, {', '.join(_SCHEMES)}.")
