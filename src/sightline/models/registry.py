"""Which model families there are: one row each, chosen by a folder's config.json."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sightline.core.errors import StartupError, shorten
from sightline.models.contract import VisionLanguageModel
from sightline.models.glm_4v_9b import Glm4v, Glm4vConfig
from sightline.models.qwen2_vl import Qwen2VL, Qwen2VLConfig
from sightline.models.qwen_vl import QwenVL, QwenVLConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`model_type` and `architectures` as hubs write them.

    `build` checks a config.json and returns the model, a torch module whose parameters have the
    hub's names, with fresh weights on torch's default device. Tensors of the names in
    `recomputed` stand in checkpoints but are not read.
    """

    model_type: str
    architectures: frozenset[str]
    build: Callable[[Mapping[str, Any]], VisionLanguageModel]
    recomputed: frozenset[str] = frozenset()


FAMILIES = (
    Family(
        model_type="chatglm",
        architectures=frozenset({"ChatGLMModel", "ChatGLMForConditionalGeneration"}),
        build=lambda config: Glm4v(Glm4vConfig.from_hub(config)),
        recomputed=frozenset({"transformer.rotary_pos_emb.inv_freq"}),
    ),
    Family(
        model_type="qwen",
        architectures=frozenset({"QWenLMHeadModel"}),
        build=lambda config: QwenVL(QwenVLConfig.from_hub(config)),
        recomputed=frozenset({"transformer.rotary_emb.inv_freq"}),
    ),
    *(
        Family(
            model_type=model_type,
            architectures=frozenset({architecture}),
            build=lambda config: Qwen2VL(Qwen2VLConfig.from_hub(config)),
        )
        for model_type, architecture in (
            ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
            ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        )
    ),
)


def find_family(config: Mapping[str, Any]) -> Family:
    """Return the family of a hub config.json. Raises StartupError if none supports it.

    A config without `architectures` is judged by its `model_type` alone.
    """
    model_type = config.get("model_type")
    family = next((row for row in FAMILIES if row.model_type == model_type), None)
    if family is None:
        problem = (
            "'model_type' is missing"
            if model_type is None
            else f"model_type {shorten(str(model_type))!r} is not supported yet"
        )
        supported = ", ".join(row.model_type for row in FAMILIES)
        raise StartupError(f"config.json: {problem}; supported: {supported}.")
    architectures = config.get("architectures")
    if architectures is None:
        return family
    names = architectures if isinstance(architectures, list) else [architectures]
    if not any(isinstance(name, str) and name in family.architectures for name in names):
        raise StartupError(
            f"config.json: architectures {shorten(str(architectures))} is not supported; "
            f"supported: {', '.join(sorted(family.architectures))}."
        )
    return family
