"""From settings to a judgement whether a model fits, for `fit` and for what loads models."""

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from sightline.cli import catalogue
from sightline.cli.columns import size
from sightline.cli.terminal import note
from sightline.core.errors import StartupError, shorten
from sightline.settings import Settings, rows, visible_gpus

if TYPE_CHECKING:
    from sightline.engine.fit import Alternative, Fit, Judgement, Wish
    from sightline.hub.facts import NamedFacts
    from sightline.models.device_memory import DeviceMemory


# Options that decide with the others whether it fits, or where the model is found.
TYPED = (
    "model_dir",
    "device",
    "gpu_memory_utilization",
    "max_num_batched_tokens",
    "max_num_seqs",
    "cuda_graphs",
)


def require_fit(settings: Settings) -> "Fit | None":
    """Refuse what cannot fit before it is downloaded or loaded, and say what would.

    Returns the estimate; None where nothing is known yet: a fake engine, a repository that nobody
    looked into, a machine that does not tell its memory. Raises StartupError `does_not_fit`, unless
    `force` is set, and `context_beyond` for a longer context than the model's.
    """
    from sightline.plan import named_facts

    if settings.model.engine == "fake":
        return None
    try:
        named = named_facts(settings.model.model, settings)
    except StartupError:
        return None  # whoever loads it says what is wrong, with more knowledge
    _require_context(named, settings.model.max_model_len)
    device = find_device(settings.model.device)
    if device is None:
        return None
    judgement = judge_named(named, device, wish_of(settings))
    fit = judgement.fit
    if fit.verdict == "shorter context":
        values = {
            "model": named.name,
            "longest": f"{fit.context:,}",
            "context": f"{fit.context_that_fits:,}",
        }
        note(catalogue.text("fit.will_cut", **values))
    if fit.verdict != "does not fit":
        return fit
    if settings.model.force:
        note(catalogue.text("fit.forced", model=named.name))
        return fit
    values = {
        "model": named.name,
        "format": format_of(fit),
        "needed": size(max(fit.needed, fit.fixed_bytes + fit.kv_planned)),
        "available": size(fit.available),
        "free": size(device.free),
        "device": device_name(device),
        "best": advice(named.spelled, judgement.best, settings),
    }
    raise StartupError(
        "{model} in {format} needs {needed}, and {available} of {device} can be taken ({free} "
        "free). {best}. `sightline fit {model}` shows the arithmetic, --force loads it all the "
        "same.".format(**values),
        code="does_not_fit",
        values=values,
    )


def _require_context(named: "NamedFacts", wanted: int | None) -> None:
    longest = named.facts.blueprint.max_positions
    if wanted is not None and wanted > longest:
        values = {"model": named.name, "longest": f"{longest:,}", "context": f"{wanted:,}"}
        raise StartupError(
            "{model} was made for at most {longest} tokens; {context} are wanted "
            "(--max-model-len).".format(**values),
            code="context_beyond",
            values=values,
        )


def as_estimated(settings: Settings, estimate: "Fit | None") -> Settings:
    """Return the settings with the number format that was found to fit, where `auto` would not."""
    if estimate is None or settings.model.dtype != "auto" or estimate.wish.dtype is None:
        return settings
    return replace(settings, model=replace(settings.model, dtype=estimate.wish.dtype))


def judge_named(named: "NamedFacts", device: "DeviceMemory", wish: "Wish") -> "Judgement":
    from sightline.engine.fit import advise
    from sightline.hub.facts import all_known

    others = ((known.name, known.facts) for known in all_known() if known.name != named.name)
    return advise(named.facts, device, wish, others)


def wish_of(settings: Settings) -> "Wish":
    """Return what the settings ask for. Raises StartupError for two number formats at once."""
    from sightline.engine.fit import Wish
    from sightline.models.quantization import choose_quantization
    from sightline.plan import chosen_quantization

    model = settings.model
    return Wish(
        dtype=None if model.dtype == "auto" else model.dtype,
        quantization=choose_quantization(*chosen_quantization(settings)),
        context=model.max_model_len,
        kv_cache_memory=model.kv_cache_memory,
        step_tokens=model.max_num_batched_tokens,
        gpu_memory_utilization=model.gpu_memory_utilization,
        max_num_seqs=model.max_num_seqs or settings.limits.max_running,
        cuda_graphs=model.cuda_graphs,
    )


def find_device(name: str) -> "DeviceMemory | None":
    """Return the memory of the device that the engine would take; None where nobody tells.

    Raises StartupError for a GPU that is not there.
    """
    from sightline.models.device_memory import are_untold, cpu_memory, gpus, torch_cuda_version

    if name == "cpu":
        return cpu_memory()
    found = gpus(visible_gpus())
    if not found and are_untold(visible_gpus()):
        return None  # the engine will see
    if name == "auto":
        return found[0] if found and torch_cuda_version() is not None else cpu_memory()
    wanted = "cuda:0" if name == "cuda" else name
    for gpu in found:
        if gpu.device == wanted:
            return gpu
    if not wanted.startswith("cuda"):
        return None
    here = ", ".join(gpu.device for gpu in found) or "none"
    raise StartupError(
        f"There is no device {shorten(name)} that nvidia-smi knows; GPUs here: {here}.",
        code="no_such_gpu",
        values={"device": shorten(name), "here": here},
    )


def device_name(device: "DeviceMemory") -> str:
    return f"{device.device} ({device.name})"


def format_of(fit: "Fit") -> str:
    """Name the number format: bfloat16; int8 + bfloat16 vision."""
    chosen, dtype = fit.footprint.quantization, fit.footprint.dtype
    if not chosen:
        return dtype
    if chosen.is_text_only:
        return str(chosen)
    return f"{chosen.language or dtype}, {catalogue.text('fit.vision')} {chosen.vision or dtype}"


def advice(name: str, best: "Alternative | None", settings: Settings) -> str:
    """Say what to do instead, as a command."""
    if best is None:
        return catalogue.text("fit.nothing")
    return catalogue.text(
        f"fit.best.{best.choice}",
        command=command(best.name or name, best.fit, settings),
        needed=size(best.fit.needed if best.fit.verdict == "fits" else best.fit.available),
        format=format_of(best.fit),
        context=f"{best.fit.context_that_fits:,}",
        concurrency=best.fit.concurrency,
    )


def command(name: str, fit: "Fit", settings: Settings) -> str:
    """Return the `sightline serve` that runs it this way, with the options that were typed."""
    from sightline.models.quantization import choose_quantization

    chosen = fit.footprint.quantization
    words = ["sightline serve", shlex.quote(name)]
    if fit.footprint.facts.stored is None:
        # What the environment or a file says holds for the command, too.
        language, vision = (
            None if settings.is_typed(name) else settings.value(rows()[name])
            for name in ("quantization", "quantization_vision")
        )
        sees = fit.footprint.facts.image_policy is not None
        if chosen.language and chosen == choose_quantization(chosen.language, vision).of_model(
            sees=sees
        ):
            words[-1] += f":{chosen.language}"
        elif chosen != choose_quantization(language, vision).of_model(sees=sees):
            words += ["--quantization", chosen.language or "none"]
            words += ["--quantization-vision", chosen.vision or "none"]
    if fit.wish.dtype is not None:
        words += ["--dtype", fit.wish.dtype]
    if fit.wish.context is not None:
        words += ["--max-model-len", str(fit.context)]
    elif fit.verdict == "shorter context" and fit.concurrency > 1:
        # Left to itself the server takes the longest for one at a time.
        words += ["--max-model-len", str(fit.context_that_fits)]
    if fit.wish.concurrency is not None:
        words += ["--max-num-seqs", str(fit.concurrency)]
    if fit.kv_told is not None:
        words += ["--kv-cache-memory", str(fit.kv_told)]
    for name in TYPED:
        row, is_said = rows()[name], name == "max_num_seqs" and fit.wish.concurrency is not None
        if settings.is_typed(name) and not is_said:
            words += _typed(row.flag, settings.value(row))
    if settings.config is not None:
        words += _typed("--config", settings.config)
    return " ".join(words)


def _typed(flag: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else "--no-" + flag.removeprefix("--")]
    values = value if isinstance(value, tuple) else (value,)
    return [word for each in values for word in (flag, shlex.quote(str(each)))]
