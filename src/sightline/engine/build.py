"""From options to an engine that has made its first step: threads, weights, memory budget."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from sightline.core.engine import EngineInfo
from sightline.core.engine_options import EngineOptions
from sightline.core.errors import StartupError
from sightline.core.sampling import SamplingParams
from sightline.engine.contract import Runner
from sightline.engine.cpus import count_cpus
from sightline.engine.faults import FaultyRunner
from sightline.engine.gpu_setup import choose_kernels, record_decodes
from sightline.engine.grammar import Grammars
from sightline.engine.kv_budget import CPU_TOKENS, GPU_TOKENS, MIN_SLOTS
from sightline.engine.loop import EngineLoop
from sightline.engine.memory import held_bytes, kv_budget, weight_bytes
from sightline.engine.plan import Chunk, Plan
from sightline.engine.pulse import Pulse
from sightline.engine.runner import ModelRunner
from sightline.engine.scheduler import Scheduler
from sightline.engine.sequence import Sequence
from sightline.models.contract import ModelDescription
from sightline.models.cpu.state import kernel_state
from sightline.models.footprint import within_context
from sightline.models.gpu import trials
from sightline.models.loading import LoadedModel, load_model
from sightline.models.packing import has_streamed, pack_linears
from sightline.models.quantization import wanted_quantization
from sightline.models.tokenizer_files import load_tokenizer, tokenizer_file

logger = logging.getLogger(__name__)

# Splitting the products of so small a model over threads costs more than it brings.
ONE_THREAD_PARAMETERS = 50_000_000
TURN_ENDS = ("<|im_end|>", "<|endoftext|>")

MAX_MASK_THREADS = 4
# Two wakes and what the front does with a first token take 1.2 ms, a step at least ten.
FIRST_TOKEN_PAUSE_S = 0.001

Progress = Callable[[int, int], None]


def build_engine(
    options: EngineOptions, progress: Progress, note_trial: trials.Note = lambda name: None
) -> EngineLoop:
    """Load the model of `options.model` and make its first step.

    `progress` is told (bytes done, bytes in total) while weights load, `note_trial` which kernels a
    GPU is about to try. Raises `StartupError`.
    """
    trials.prepare(options.without_kernels, note_trial)
    if options.faults is not None and not options.allow_faults:
        raise StartupError("Faults on purpose are only allowed together with allow_faults.")
    torch.set_num_threads(options.num_threads or count_cpus())
    folder = Path(options.model)
    tokenizer = load_tokenizer(folder)
    loaded = load_model(
        folder,
        dtype=options.dtype,
        device=options.device,
        quantization=wanted_quantization(options.quantization, options.quantization_vision),
        progress=progress,
        packed=True,
    )
    grammars = Grammars(
        tokenizer,
        _ends(loaded.description, tokenizer.special_tokens),
        num_threads=min(MAX_MASK_THREADS, count_cpus()),
    )
    return assemble_engine(options, loaded, num_tokens=tokenizer.num_tokens, grammars=grammars)


def _ends(description: ModelDescription, special_tokens: Mapping[str, int]) -> tuple[int, ...]:
    """Return the ids that end an answer: what the model's files say, and what ends a turn.

    Files of ChatML's models may leave out the latter, or both.
    """
    turns = (special_tokens[name] for name in TURN_ENDS if name in special_tokens)
    return tuple(dict.fromkeys((*description.eos_token_ids, *turns)))


def assemble_engine(
    options: EngineOptions,
    loaded: LoadedModel,
    *,
    num_tokens: int,
    grammars: Grammars | None = None,
) -> EngineLoop:
    """Put scheduler, runner and loop around a loaded model. Raises `StartupError`.

    `num_tokens` is how many ids the tokenizer has; the model may have more rows. Without
    `grammars` no answer can be bound to one.
    """
    if options.num_threads is None and loaded.num_parameters < ONE_THREAD_PARAMETERS:
        torch.set_num_threads(1)
    pack_linears(loaded.model, loaded.dtype)
    description, is_gpu = loaded.description, loaded.device.type != "cpu"
    if not is_gpu:
        logger.info("CPU kernels: %s", _cpu_kernels(loaded))
    choose_kernels(options, loaded)
    with trials.all_together(loaded.device):
        num_blocks = _count_blocks(options, loaded)
        num_slots = num_blocks * options.block_size
        pulse = Pulse()
        pulse.follow(loaded.model)
        max_model_len = _context_length(options, description, num_slots)
        # On a GPU one block more, which is nobody's: see `decode_graphs`.
        pool = loaded.model.allocate_pool(num_blocks + is_gpu, options.block_size)
        graphs = record_decodes(options, loaded, pool, max_model_len)
        runner: Runner = ModelRunner(
            loaded.model, pool, loaded.device, num_tokens=num_tokens, graphs=graphs
        )
        _make_first_step(runner, options.block_size)
    if options.faults is not None:
        runner = FaultyRunner(runner, options.faults)
    folder = Path(options.model)
    info = EngineInfo(
        model_id=options.model_id or folder.resolve().name,
        aliases=options.aliases,
        prompt_format=description.prompt_format,
        tokenizer_file=str(tokenizer_file(folder)),
        max_model_len=max_model_len,
        vocab_size=description.vocab_size,
        eos_token_ids=description.eos_token_ids,
        image_policy=description.image_policy,
        box_units=description.box_units,
        default_temperature=description.default_temperature,
        default_top_p=description.default_top_p,
        default_top_k=description.default_top_k,
        default_repetition_penalty=description.default_repetition_penalty,
        device=str(loaded.device),
        dtype=_number_format(loaded),
        num_parameters=loaded.num_parameters,
        weight_bytes=weight_bytes(loaded.model),
        kv_bytes=pool.size_bytes,
        kv_slots=num_slots,
        held_bytes=held_bytes(loaded.device),
    )
    overlap = is_gpu if options.overlap_steps is None else options.overlap_steps
    takes_all_cores = not is_gpu and torch.get_num_threads() >= count_cpus()
    row_bytes = _row_bytes(loaded)
    policy = within_context(description.image_policy, max_model_len)
    largest = 0 if policy is None else policy.most_tokens
    scheduler = Scheduler(
        num_blocks=num_blocks,
        block_size=options.block_size,
        max_num_seqs=options.max_num_seqs,
        max_num_batched_tokens=options.max_num_batched_tokens
        or (GPU_TOKENS if is_gpu else CPU_TOKENS),
        # At least one picture must have room, or none could ever be answered.
        embedding_cache_bytes=max(options.embedding_cache_bytes, largest * row_bytes),
        row_bytes=row_bytes,
        prefix_caching=options.prefix_caching,
        kv_variant=loaded.model.kv_variant,
        # Recorded decodes have one row each, and a step planned ahead knows no newest token.
        num_guesses=0 if is_gpu or graphs or overlap else options.num_speculative_tokens,
    )
    return EngineLoop(
        info=info,
        runner=runner,
        scheduler=scheduler,
        pulse=pulse,
        overlap=overlap,
        log_steps=options.debug_engine,
        grammars=grammars,
        first_token_pause_s=FIRST_TOKEN_PAUSE_S if takes_all_cores else 0.0,
    )


def _cpu_kernels(loaded: LoadedModel) -> str:
    found = kernel_state()
    if found.state == "ours" and not has_streamed(loaded.model):
        return "torch's (they suit this number format better)"
    return str(found)


def _count_blocks(options: EngineOptions, loaded: LoadedModel) -> int:
    """Return how many KV blocks the memory budget holds.

    That is the operator's, or what `memory.kv_budget` measures.
    """
    block_bytes = loaded.model.allocate_pool(1, options.block_size).size_bytes
    budget = options.kv_cache_memory
    if budget is None:
        is_gpu = loaded.device.type != "cpu"
        step_tokens = options.max_num_batched_tokens or (GPU_TOKENS if is_gpu else CPU_TOKENS)
        budget = kv_budget(options, loaded, block_bytes, step_tokens)
    num_blocks = budget // block_bytes
    least = -(-MIN_SLOTS // options.block_size)
    if num_blocks < least:
        raise StartupError(
            f"The KV cache has {budget} bytes, room for {num_blocks} blocks of "
            f"{options.block_size} tokens; at least {least * block_bytes} bytes are needed "
            "(kv_cache_memory)."
        )
    return num_blocks


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


def _number_format(loaded: LoadedModel) -> str:
    dtype = str(loaded.dtype).removeprefix("torch.")
    return f"{loaded.quantization} in {dtype}" if loaded.quantization else dtype


def _row_bytes(loaded: LoadedModel) -> int:
    """Return the memory of one row of embeddings."""
    row = loaded.model.embed(torch.zeros(1, dtype=torch.int64, device=loaded.device))
    return row.nbytes


def _make_first_step(runner: Runner, block_size: int) -> None:
    """Prefill and decode once, so that `ready` means that a step has happened."""
    sequence = Sequence(
        request_id="first step",
        prompt=(0, 0),
        images=(),
        params=SamplingParams(max_tokens=2, temperature=0),
        seed=0,
        max_model_len=4,
        arrived_at=0.0,
    )
    blocks = list(range(-(-4 // block_size)))
    try:
        for start, end in ((0, 2), (2, 3)):
            chunk = Chunk(sequence, start, end, blocks, True, 0)
            sampled = runner.compute(Plan(chunks=(chunk,))).outcomes[sequence]
            if isinstance(sampled, Exception):
                raise StartupError(
                    "The model's first step gave NaN or infinity: the weights are damaged, or "
                    "the number format cannot hold this model (try another dtype)."
                ) from sampled
            sequence.answer.append(sampled[0].token_id)
    finally:
        runner.release(sequence)
