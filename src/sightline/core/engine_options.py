"""What an engine is built from: plain data, so that it can cross a process boundary."""

from dataclasses import dataclass

from sightline.core.limits import MIB


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
    machine. `max_model_len` and `kv_cache_bytes` both bound the context: a request reserves its
    whole length when it is admitted, so memory cannot run out in flight. `prefill_chunk` is the
    most prompt tokens computed between two decode steps.
    """

    model: str
    model_id: str | None = None
    aliases: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "auto"
    num_threads: int | None = None
    max_model_len: int | None = None
    max_num_seqs: int = 256
    kv_cache_bytes: int | None = None
    embedding_cache_bytes: int = 128 * MIB
    prefill_chunk: int = 512
    allow_faults: bool = False
    faults: FaultOptions | None = None
