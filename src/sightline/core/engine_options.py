"""What an engine is built from: plain data, so that it can cross a process boundary."""

from dataclasses import dataclass
from typing import Literal, get_args

from sightline.core.limits import MIB

OwnKernelName = Literal["attention", "linear", "norm", "tower", "quantized", "overlap"]
KernelName = Literal["own", OwnKernelName, "varlen", "graphs"]
OWN_KERNELS: tuple[OwnKernelName, ...] = get_args(OwnKernelName)
"""What `own` stands for; varlen is torch's, and graphs replay whatever kernels there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOptions:
    """Failures to rehearse, each triggered by a token id in a prompt. Tests only.

    An engine refuses to start with these unless `EngineOptions.allow_faults` is set too.
    """

    raise_token: int | None = None
    nan_token: int | None = None
    hang_token: int | None = None
    kill_token: int | None = None
    step_delay_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """One model on one device.

    `model` is a folder in hub layout. None means: the model's own value, or what suits the
    machine. `quantization`, of the language and of the vision part, is none, int8 or int4; None for
    both takes the weights as they are stored. `kv_cache_memory` is in bytes; it and `max_model_len`
    both bound the context, so that whatever is admitted can be finished; where it is unset, a GPU
    is filled up to `gpu_memory_utilization`. A step computes at most `max_num_batched_tokens`
    tokens of at most `max_num_seqs` sequences. `overlap_steps` plans a step while the one before is
    computed; otherwise, on a CPU, up to `num_speculative_tokens` of an answer are guessed and
    checked in one step (`engine.guesses`). `debug_engine` logs a line for every step.
    `attention_backend`, `cuda_graphs` and `without_kernels`, which are not even tried, only mean
    something on a GPU.
    """

    model: str
    model_id: str | None = None
    aliases: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    quantization: str | None = None
    quantization_vision: str | None = None
    num_threads: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None
    block_size: int = 16
    kv_cache_memory: int | None = None
    gpu_memory_utilization: float = 0.9
    embedding_cache_bytes: int = 128 * MIB
    prefix_caching: bool = True
    overlap_steps: bool | None = None
    num_speculative_tokens: int = 7
    attention_backend: str = "auto"
    cuda_graphs: bool = True
    without_kernels: tuple[KernelName, ...] = ()
    debug_engine: bool = False
    allow_faults: bool = False
    faults: FaultOptions | None = None
