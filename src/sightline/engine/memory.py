"""Memory as it is measured once the weights are there: what a step takes, what is left for keys."""

from typing import Protocol

import torch
from torch import nn

from sightline.core.engine_options import EngineOptions
from sightline.core.errors import StartupError
from sightline.core.image_policy import ImagePolicy
from sightline.engine.graph_memory import recording_bytes, sizes_up_to
from sightline.engine.kv_budget import cpu_kv_bytes, gpu_kv_bytes
from sightline.models.contract import VisionLanguageModel
from sightline.models.device_memory import cpu_memory, process_bytes
from sightline.models.footprint import largest_size, pictures_at_once, within_context
from sightline.models.linear import Linear
from sightline.models.loading import LoadedModel


class PeakMeter(Protocol):
    """Tells how much more memory was held at the height of some work than before it."""

    def start(self) -> None: ...

    def peak(self) -> int: ...


class CudaPeak:
    """What torch's allocator held on a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0

    def start(self) -> None:
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)

    def peak(self) -> int:
        torch.cuda.synchronize(self._device)
        peak = torch.cuda.max_memory_allocated(self._device) - self._before
        torch.cuda.empty_cache()
        return peak


def kv_budget(
    options: EngineOptions, loaded: LoadedModel, block_bytes: int, step_tokens: int
) -> int:
    """Return the bytes for keys and values, where the options name none.

    On a GPU what is free beside the weights, a step of `step_tokens` that was tried, and recorded
    steps; on a CPU what `cpu_kv_bytes` says.
    """
    device = loaded.device
    context = options.max_model_len or loaded.description.max_model_len
    if device.type == "cuda":
        meter, max_seqs = CudaPeak(device), options.max_num_seqs
        step = measure_step(loaded.model, device, meter, step_tokens, max_seqs, context=context) + (
            _recorded_bytes(loaded, meter, max_seqs) if options.cuda_graphs else 0
        )
        free, total = torch.cuda.mem_get_info(device)
        return gpu_kv_bytes(
            total_bytes=total,
            free_bytes=free,
            utilization=options.gpu_memory_utilization,
            step_bytes=step + options.embedding_cache_bytes,
        )
    memory = cpu_memory()
    return cpu_kv_bytes(
        context_bytes=-(-context // options.block_size) * block_bytes,
        machine_bytes=None if memory is None else memory.total,
        free_bytes=None if memory is None else memory.free,
    )


@torch.inference_mode()
def measure_step(
    model: VisionLanguageModel,
    device: torch.device,
    meter: PeakMeter,
    num_tokens: int,
    num_sampled: int,
    *,
    context: int,
) -> int:
    """Return what the largest pictures, a step of that many tokens, and sampling take, in bytes.

    The pictures are the largest that have room in `context`, as many as are encoded together. They
    have a stream of their own, whose memory torch keeps apart: what they take comes on top.
    Raises StartupError when the device has not enough even for them.
    """
    policy = within_context(model.description.image_policy, context)
    num_tokens = min(num_tokens, context)
    try:
        encode_bytes = 0
        if policy is not None:
            meter.start()
            model.encode_images(_pictures(policy, device))
            encode_bytes = meter.peak()
        meter.start()
        scores = _scores(model, device, num_tokens, num_sampled).float()
        scores.softmax(-1).sort(-1, descending=True)
        return encode_bytes + meter.peak()
    except torch.OutOfMemoryError:
        raise StartupError(
            f"{device} has not enough memory beside the weights for a step of {num_tokens} tokens "
            "and the largest picture; lower --max-num-batched-tokens, or quantise the weights."
        ) from None


@torch.inference_mode()
def _recorded_bytes(loaded: LoadedModel, meter: PeakMeter, max_seqs: int) -> int:
    """Return what recorded steps will take: see `graph_memory`."""
    largest = sizes_up_to(max_seqs)[-1]
    meter.start()
    scores = _scores(loaded.model, loaded.device, largest, largest)
    return recording_bytes(
        max_seqs, step_bytes=meter.peak(), score_bytes=scores.nbytes // len(scores)
    )


def _scores(
    model: VisionLanguageModel, device: torch.device, num_tokens: int, num_sampled: int
) -> torch.Tensor:
    """Compute a step whose first `num_sampled` rows are sampled, with nothing remembered."""
    ids = torch.zeros(num_tokens, dtype=torch.int64, device=device)
    positions = model.positions(num_tokens, ()).to(device)
    hidden = model.forward(model.embed(ids), positions)
    return model.logits(hidden[:num_sampled])


def weight_bytes(model: object) -> int:
    """Return the bytes of all weights, in the form in which they are at the moment."""
    if not isinstance(model, nn.Module):
        return 0
    layers = (module for module in model.modules() if isinstance(module, Linear))
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    return parameters + sum(layer.kernel_bytes for layer in layers)


def held_bytes(device: torch.device) -> int:
    """Return what this process holds: on a GPU by torch's allocator, else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return process_bytes()


def _pictures(policy: ImagePolicy, device: torch.device) -> torch.Tensor:
    width, height = largest_size(policy)
    number = pictures_at_once(width, height)
    return torch.zeros(number, height, width, 3, dtype=torch.uint8, device=device)
