"""From options to an engine that has made its first step: threads, weights, memory budget."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import torch

from sightline.core.engine import EngineInfo
from sightline.core.engine_options import EngineOptions
from sightline.core.errors import StartupError
from sightline.core.sampling import SamplingParams
from sightline.engine.contract import Runner
from sightline.engine.cpus import count_cpus
from sightline.engine.embedding_cache import EmbeddingCache
from sightline.engine.faults import FaultyRunner
from sightline.engine.loop import EngineLoop
from sightline.engine.pulse import Pulse
from sightline.engine.runner import ModelRunner
from sightline.engine.sampler import SamplingRow, sample_rows
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence
from sightline.models.contract import ModelDescription
from sightline.models.loading import LoadedModel, load_model
from sightline.models.tokenizers import TOKENIZER_FILE, TiktokenTokenizer

logger = logging.getLogger(__name__)

GIB = 1024**3
# Splitting the products of so small a model over threads costs more than it brings.
ONE_THREAD_PARAMETERS = 50_000_000
# A context shorter than this answers nothing.
MIN_SLOTS = 64

Progress = Callable[[int, int], None]


def build_engine(options: EngineOptions, progress: Progress) -> EngineLoop:
    """Load the model of `options.model` and make its first step.

    `progress` is told (bytes done, bytes in total) while weights load. Raises `StartupError`.
    """
    if options.faults is not None and not options.allow_faults:
        raise StartupError("Faults on purpose are only allowed together with allow_faults.")
    torch.set_num_threads(options.num_threads or count_cpus())
    folder = Path(options.model)
    tokenizer = TiktokenTokenizer.load(folder)
    loaded = load_model(folder, dtype=options.dtype, device=options.device, progress=progress)
    return assemble_engine(options, loaded, num_tokens=tokenizer.num_tokens)


def assemble_engine(options: EngineOptions, loaded: LoadedModel, *, num_tokens: int) -> EngineLoop:
    """Put scheduler, runner and loop around a loaded model. Raises `StartupError`.

    `num_tokens` is how many ids the tokenizer has; the model may have more rows.
    """
    if options.num_threads is None and loaded.num_parameters < ONE_THREAD_PARAMETERS:
        torch.set_num_threads(1)
    description = loaded.description
    num_slots = _count_slots(options, loaded)
    pulse = Pulse()
    pulse.follow(loaded.model)
    embeddings = EmbeddingCache[torch.Tensor](options.embedding_cache_bytes)
    runner: Runner = ModelRunner(loaded.model, embeddings, loaded.device)
    _make_first_step(runner, num_tokens)
    if options.faults is not None:
        runner = FaultyRunner(runner, options.faults)
    folder = Path(options.model)
    info = EngineInfo(
        model_id=options.model_id or folder.resolve().name,
        aliases=options.aliases,
        prompt_format=description.prompt_format,
        tokenizer_file=str(folder / TOKENIZER_FILE),
        max_model_len=_context_length(options, description, num_slots),
        vocab_size=description.vocab_size,
        eos_token_ids=description.eos_token_ids,
        image_policy=description.image_policy,
        default_temperature=description.default_temperature,
        default_top_p=description.default_top_p,
        device=str(loaded.device),
        dtype=str(loaded.dtype).removeprefix("torch."),
        num_parameters=loaded.num_parameters,
    )
    scheduler = Scheduler(
        max_num_seqs=options.max_num_seqs,
        num_slots=num_slots,
        prefill_chunk=options.prefill_chunk,
    )
    return EngineLoop(
        info=info, runner=runner, scheduler=scheduler, num_tokens=num_tokens, pulse=pulse
    )


def _count_slots(options: EngineOptions, loaded: LoadedModel) -> int:
    """Return how many KV slots the memory budget holds.

    Without a budget of the operator's: on a GPU four fifths of what the weights left free, on a
    CPU 1 GiB, or one full context if that is more, but never over a quarter of the machine.
    """
    slot_bytes = loaded.model.allocate_cache(1).size_bytes
    budget = options.kv_cache_bytes
    if budget is None and loaded.device.type == "cuda":
        budget = torch.cuda.mem_get_info(loaded.device)[0] * 4 // 5
    elif budget is None:
        context = options.max_model_len or loaded.description.max_model_len
        context_bytes = context * slot_bytes
        machine_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        budget = min(max(GIB, context_bytes), machine_bytes // 4)
    num_slots = budget // slot_bytes
    if num_slots < MIN_SLOTS:
        raise StartupError(
            f"The KV cache has {budget} bytes, room for {num_slots} tokens; "
            f"at least {MIN_SLOTS * slot_bytes} bytes are needed (kv_cache_bytes)."
        )
    return num_slots


def _context_length(options: EngineOptions, description: ModelDescription, num_slots: int) -> int:
    wanted = options.max_model_len or description.max_model_len
    if wanted > description.max_model_len:
        raise StartupError(
            f"max_model_len is {wanted}, but this model was made for at most "
            f"{description.max_model_len} tokens."
        )
    if wanted > num_slots:
        logger.warning(
            "the context is cut from %d to %d tokens by the memory for keys and values",
            wanted,
            num_slots,
        )
    return min(wanted, num_slots)


def _make_first_step(runner: Runner, num_tokens: int) -> None:
    """Prefill and decode once, so that `ready` means that a step has happened."""
    params = SamplingParams(max_tokens=2, temperature=0)
    sequence = Sequence(
        request_id="first step",
        prompt=(0, 0),
        images=(),
        params=params,
        seed=0,
        max_model_len=4,
        arrived_at=0.0,
    )
    runner.start(sequence)
    logits = runner.prefill(sequence, 0, 2)
    assert logits is not None
    row = SamplingRow(params=params, seed=0, prompt=sequence.prompt, answer=sequence.answer)
    try:
        for _ in range(2):
            sampled = sample_rows(logits[None], [row], num_tokens=num_tokens)[0]
            if isinstance(sampled, Exception):
                raise StartupError(
                    "The model's first step gave NaN or infinity: the weights are damaged, or "
                    "the number format cannot hold this model (try another dtype)."
                ) from sampled
            sequence.answer.append(sampled.token_id)
            logits = runner.decode(sequence)
    finally:
        runner.release(sequence)
