"""What an engine on a GPU decides before it is ready: kernels that are checked, steps recorded."""

import logging
from collections.abc import Callable
from functools import partial

import torch

from sightline.core.engine_options import EngineOptions, KernelName
from sightline.engine.decode_graphs import CudaRecorder, DecodeGraphs
from sightline.engine.launch_choice import choose_launches
from sightline.models.gpu.choice import choose_attention
from sightline.models.gpu.picture_attention import choose_picture_attention
from sightline.models.gpu.trials import KernelsLost, LeftOut, trial
from sightline.models.kv_pool import KVPool
from sightline.models.loading import LoadedModel
from sightline.models.paged_model import PagedModel

logger = logging.getLogger(__name__)


def choose_kernels(options: EngineOptions, loaded: LoadedModel) -> None:
    """Choose how the model attends to paged keys and to pictures. Raises `StartupError`.

    What `gpu.trials` leaves out is not tried. Nothing is done on a CPU, nor to a model of another
    kind than ours.
    """
    model, device = loaded.model, loaded.device
    if device.type != "cuda" or not isinstance(model, PagedModel):
        return
    torch.cuda.set_device(device)
    if loaded.dtype == torch.float16:
        # Sums of partial products must not overflow either.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    shape = model.kv_shape
    model.attention = choose_attention(
        options.attention_backend,
        num_heads=model.num_heads,
        num_groups=shape.num_groups,
        head_dim=shape.head_dim,
        dtype=loaded.dtype,
        device=device,
    )
    tower = model.tower_shape
    if tower is not None:
        model.picture_attention = choose_picture_attention(tower, loaded.dtype, device)
    for layers in model.can_join():
        layers.join()
        # What was freed fits nothing that is still to come.
        torch.cuda.empty_cache()
    _speed_up(model)
    torch.cuda.empty_cache()


def _speed_up(model: PagedModel) -> None:
    """Replace what our own kernels do faster. float16 needs the bounds of the ordinary way."""
    if model.dtype != torch.bfloat16:
        return
    installs: dict[KernelName, Callable[[PagedModel], None]] = {
        "linear": _install_linears,
        "norm": _install_norms,
        "tower": _install_tower,
    }
    for what, install in installs.items():
        try:
            with trial(what, model.device):
                install(model)
        except KernelsLost:
            raise
        except Exception as error:  # no Triton, no compiler, a driver that does not fit
            told = f"{type(error).__name__}: {error}"
            logger.info("our own %s kernels are passed over (%s)", what, told)


def _install_linears(model: PagedModel) -> None:
    from sightline.models.gpu import fast_linears

    fast_linears.install(model)


def _install_norms(model: PagedModel) -> None:
    from sightline.models.gpu import fast_norms

    fast_norms.install(model)


def _install_tower(model: PagedModel) -> None:
    from sightline.models.gpu import fast_tower

    fast_tower.install(model)


def record_decodes(
    options: EngineOptions, loaded: LoadedModel, pool: KVPool, max_slots: int
) -> DecodeGraphs | None:
    """Record decode steps on a GPU, unless they are not wanted or do not work there.

    The pool's last block must be nobody's.
    """
    model, device = loaded.model, loaded.device
    if device.type != "cuda" or not options.cuda_graphs or not isinstance(model, PagedModel):
        return None
    if model.attention is None:
        return None
    recorder = CudaRecorder(device)
    graphs = DecodeGraphs(
        model,
        pool,
        model.attention,
        recorder,
        max_seqs=options.max_num_seqs,
        max_slots=max_slots,
        nobodys_block=pool.num_blocks - 1,
    )
    try:
        with trial("graphs", device):
            overlaps = _choose_launches(model, graphs, recorder)
        # The way they are launched is the first to be blamed, and can be left out alone.
        with trial("overlap" if overlaps else "graphs", device):
            graphs.record_all()
            if graphs.is_right():
                return graphs
        logger.warning("a replayed step gave another result than a computed one; none is replayed")
    except LeftOut as why:
        logger.info("decode steps are not recorded (%s)", why)
    return None


def _choose_launches(model: PagedModel, graphs: DecodeGraphs, recorder: CudaRecorder) -> bool:
    """Say whether the kernels of a recorded step overlap."""
    try:
        from sightline.models.gpu import dependents
    except ImportError:  # there is no Triton, so there are no kernels of ours
        return False
    kernels = dependents.of(model)
    if not kernels:
        return False
    try:
        with trial("overlap", model.device):
            let_depend = partial(dependents.let_depend, kernels)
            return choose_launches(graphs, let_depend, recorder.apart)
    except LeftOut as why:
        logger.info("a step's kernels are launched one by one (%s)", why)
        return False
    finally:
        torch.cuda.empty_cache()
