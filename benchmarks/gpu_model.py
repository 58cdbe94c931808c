"""GLM-4V-9B at any size with random weights on a device, and what its steps cost at least."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import nn

from sightline.core.image_policy import SquareImagePolicy
from sightline.models.contract import ModelDescription
from sightline.models.glm_4v_9b import Glm4v
from sightline.models.glm_4v_blueprint import Glm4vConfig
from sightline.models.linear import Linear
from sightline.models.loading import LoadedModel
from sightline.models.quantization import NO_QUANTIZATION, Quantization, weight_bytes
from sightline.models.quantized import quantize

FULL = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "hidden_size": 4096,
    "num_layers": 40,
    "num_attention_heads": 32,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "kv_channels": 128,
    "ffn_hidden_size": 13696,
    "padded_vocab_size": 151552,
    "vocab_size": 151552,
    "layernorm_epsilon": 1.5625e-7,
    "add_qkv_bias": True,
    "add_bias_linear": False,
    "rmsnorm": True,
    "post_layer_norm": True,
    "original_rope": True,
    "seq_length": 8192,
    "rope_ratio": 1,
    "eos_token_id": [151329, 151336, 151338],
    "vision_config": {
        "dropout_prob": 0.0,
        "hidden_act": "gelu",
        "in_channels": 3,
        "num_hidden_layers": 63,
        "hidden_size": 1792,
        "patch_size": 14,
        "num_heads": 16,
        "intermediate_size": 15360,
        "layer_norm_eps": 1e-6,
        "num_positions": 6401,
        "image_size": 1120,
        "scaling_factor": 8,
    },
}
TINY = FULL | {
    "hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "kv_channels": 16,
    "ffn_hidden_size": 96,
    "padded_vocab_size": 512,
    "vocab_size": 512,
    "eos_token_id": [509, 510, 511],
    "vision_config": FULL["vision_config"]  # type: ignore[operator]
    | {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 64,
        "image_size": 112,
        "num_positions": 65,
    },
}
PRESETS = {"full": FULL, "tiny": TINY}


def build(
    preset: str, layers: int | None, device: torch.device, dtype: torch.dtype
) -> tuple[Glm4vConfig, LoadedModel]:
    """Return a model of random weights; `layers` cuts the trunk and the tower."""
    values = dict(PRESETS[preset])
    vision = dict(cast(dict[str, object], values["vision_config"]))
    if layers is not None:
        values["num_layers"] = layers
        vision["num_hidden_layers"] = layers
    config = Glm4vConfig.from_hub(values | {"vision_config": vision})
    with torch.device("meta"):
        model = Glm4v(config)
    model.to(dtype)
    model.to_empty(device=device)
    fill(model)
    description: ModelDescription = model.description
    return config, LoadedModel(
        model=model,
        description=description,
        device=device,
        dtype=dtype,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Draw weights that keep numbers in range, as trained ones do."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1 and name.endswith("weight"):
            parameter.fill_(1.0)
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.normal_(0, parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.02)
        parameter.requires_grad_(requires_grad=False)
    model.eval()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the device was measured to do: bytes read and written by a copy, and products."""

    copy_bytes_s: float
    matmul_flops_s: float


@torch.inference_mode()
def quantize_layers(model: nn.Module, quantization: Quantization) -> None:
    """Quantise what loading would, layer by layer."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for name, scheme in quantization.schemes(shapes).items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, Linear)
        layer.quantize(quantize(layer.weight, scheme))


def measure_machine(device: torch.device, dtype: torch.dtype) -> Machine:
    is_gpu = device.type == "cuda"
    num_bytes = 4 * 1024**3 if is_gpu else 64 * 1024**2
    source = torch.ones(num_bytes // 2, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    copy_s = best_of(partial(target.copy_, source), device, rounds=8)
    del source, target
    side = 8192 if is_gpu else 512
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    matmul_s = best_of(partial(torch.matmul, left, right), device, rounds=8)
    return Machine(copy_bytes_s=2 * num_bytes / copy_s, matmul_flops_s=2 * side**3 / matmul_s)


def best_of(work: Callable[[], object], device: torch.device, *, rounds: int) -> float:
    """Return the seconds of the fastest round; the first one only warms up."""
    best = float("inf")
    for number in range(rounds + 1):
        wait_for(device)
        began = time.perf_counter()
        work()
        wait_for(device)
        if number:
            best = min(best, time.perf_counter() - began)
    return best


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Roofline:
    """The least time of things by arithmetic: bytes over the copy, operations over the product.

    The model's weights are counted as they are before they are quantised.
    """

    def __init__(
        self,
        config: Glm4vConfig,
        loaded: LoadedModel,
        machine: Machine,
        quantization: Quantization = NO_QUANTIZATION,
    ) -> None:
        model = cast(Glm4v, loaded.model)
        self._machine = machine
        self._config = config
        self._bytes = loaded.dtype.itemsize
        self._trunk = count(model.transformer.encoder)
        self._head = count(model.transformer.output_layer)
        self._weight_bytes = sum(
            weight_bytes(name, parameter.shape, quantization, itemsize=self._bytes)
            for name, parameter in model.named_parameters()
            if name.startswith(("transformer.encoder.", "transformer.output_layer."))
        )
        vision = model.transformer.vision
        assert vision is not None
        assert config.vision is not None
        rows = config.vision.num_positions
        width = config.vision.hidden_size
        attention = 4 * rows * rows * width * config.vision.num_layers
        self._tower_flops = 2 * count(vision.transformer) * rows + attention
        self._tower_flops += (
            2 * count(vision.conv, vision.linear_proj) * (config.vision.num_image_tokens - 2)
        )

    def encode_s(self) -> float:
        return self._tower_flops / self._machine.matmul_flops_s

    def prefill_s(self, num_rows: int) -> float:
        width = self._config.num_heads * self._config.head_dim
        attention = 2 * num_rows**2 * width * self._config.num_layers
        return (2 * self._trunk * num_rows + attention) / self._machine.matmul_flops_s

    def step_s(self, batch: int, context: int) -> float:
        """Time of a decode step: weights and keys are read, or products are computed."""
        config = self._config
        slot = 2 * config.num_groups * config.head_dim * config.num_layers * self._bytes
        read = self._weight_bytes + batch * context * slot
        computed = 2 * batch * (self._trunk + self._head)
        return max(read / self._machine.copy_bytes_s, computed / self._machine.matmul_flops_s)


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def picture_size(description: ModelDescription) -> tuple[int, int]:
    """Return a picture's side in pixels and its rows."""
    policy = description.image_policy
    assert isinstance(policy, SquareImagePolicy)
    return policy.size, policy.num_tokens
