"""Which model families there are, told without torch: one row each, chosen by config.json."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sightline.core.errors import StartupError, shorten
from sightline.models.glm_4v_blueprint import Glm4vConfig
from sightline.models.outline import Blueprint
from sightline.models.qwen2_vl_blueprint import Qwen2VLConfig
from sightline.models.qwen_vl_blueprint import QwenVLConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`model_type` and `architectures` as hubs write them.

    `blueprint` checks a config.json and returns what it describes. Tensors of the names in
    `recomputed` stand in checkpoints but are not read, unless the model has one of that name.
    `newer_names`: how tensors' names begin in some checkpoints, and how in the published ones.
    """

    model_type: str
    architectures: frozenset[str]
    blueprint: Callable[[Mapping[str, Any]], Blueprint]
    recomputed: frozenset[str] = frozenset()
    newer_names: Mapping[str, str] = field(default_factory=dict)


FAMILIES = (
    Family(
        model_type="chatglm",
        architectures=frozenset({"ChatGLMModel", "ChatGLMForConditionalGeneration"}),
        blueprint=Glm4vConfig.from_hub,
        recomputed=frozenset({"transformer.rotary_pos_emb.inv_freq"}),
    ),
    Family(
        model_type="qwen",
        architectures=frozenset({"QWenLMHeadModel"}),
        blueprint=QwenVLConfig.from_hub,
        recomputed=frozenset({"transformer.rotary_emb.inv_freq"}),
    ),
    *(
        Family(
            model_type=model_type,
            architectures=frozenset({architecture}),
            blueprint=Qwen2VLConfig.from_hub,
            # The copy that some tools write of a table that is the output layer, too.
            recomputed=frozenset({"lm_head.weight"}),
            # As transformers' modules are called since 4.52, and what is saved past it.
            newer_names={"model.language_model.": "model.", "model.visual.": "visual."},
        )
        for model_type, architecture in (
            ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
            ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        )
    ),
)


# What transformers calls GLM-4: the repositories whose names end in -hf.
CONVERTED_TYPE = "glm"


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
        if model_type == CONVERTED_TYPE:
            raise StartupError(
                "config.json: model_type 'glm' is not supported; of a GLM-4 that was converted for "
                "transformers (-hf) take the original, for example glm-4-9b-chat.",
                code="config_converted",
            )
        raise StartupError(
            f"config.json: {problem}; supported: {supported}.",
            code="config_no_type" if model_type is None else "config_other_type",
            values={"found": repr(shorten(str(model_type))), "supported": supported},
        )
    architectures = config.get("architectures")
    if architectures is None:
        return family
    names = architectures if isinstance(architectures, list) else [architectures]
    if not any(isinstance(name, str) and name in family.architectures for name in names):
        supported = ", ".join(sorted(family.architectures))
        found = shorten(str(architectures))
        raise StartupError(
            f"config.json: architectures {found} is not supported; supported: {supported}.",
            code="config_other_architecture",
            values={"found": found, "supported": supported},
        )
    return family
