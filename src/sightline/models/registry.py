"""From a config.json to a model without weights: which torch module computes which blueprint."""

from collections.abc import Callable, Mapping
from typing import Any

from sightline.models.contract import VisionLanguageModel
from sightline.models.families import Family, find_family
from sightline.models.glm_4v_9b import Glm4v
from sightline.models.glm_4v_blueprint import Glm4vConfig
from sightline.models.qwen2_vl import Qwen2VL
from sightline.models.qwen2_vl_blueprint import Qwen2VLConfig
from sightline.models.qwen_vl import QwenVL
from sightline.models.qwen_vl_blueprint import QwenVLConfig

__all__ = ["Family", "build_model", "find_family"]

MODULES: dict[type, Callable[[Any], VisionLanguageModel]] = {
    Glm4vConfig: Glm4v,
    QwenVLConfig: QwenVL,
    Qwen2VLConfig: Qwen2VL,
}


def build_model(config: Mapping[str, Any]) -> VisionLanguageModel:
    """Return the model of a hub config.json, with fresh weights on torch's default device.

    It is a torch module whose parameters have the hub's names. Raises StartupError for a
    configuration that no family supports.
    """
    blueprint = find_family(config).blueprint(config)
    return MODULES[type(blueprint)](blueprint)
