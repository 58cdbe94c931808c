"""Will a model fit this machine? The arithmetic, the verdict, and what to do instead."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.cli import catalogue
from sightline.cli.columns import columns, size
from sightline.cli.fitting import (
    advice,
    command,
    device_name,
    find_device,
    format_of,
    judge_named,
    wish_of,
)
from sightline.cli.options import takes_settings
from sightline.cli.terminal import EXIT_FAILED, ends_cleanly, fail, print_json
from sightline.core.errors import shorten
from sightline.core.limits import Limits
from sightline.settings import Settings, parse_size

if TYPE_CHECKING:
    from sightline.engine.fit import Fit, Judgement
    from sightline.hub.facts import NamedFacts
    from sightline.hub.names import Quantisation
    from sightline.models.device_memory import DeviceMemory

SETTINGS = (
    "model_dir",
    "device",
    "dtype",
    "max_model_len",
    "kv_cache_memory",
    "gpu_memory_utilization",
    "max_num_batched_tokens",
    "max_num_seqs",
    "cuda_graphs",
)


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("fit.help"))
    @ends_cleanly
    @takes_settings(*SETTINGS)
    def fit(
        settings: Settings,
        name: Annotated[
            str, typer.Argument(metavar="MODEL", help=catalogue.text("inspect.model"))
        ] = "",
        int8: Annotated[bool, typer.Option("--int8", help=catalogue.text("fit.int8"))] = False,
        int4: Annotated[bool, typer.Option("--int4", help=catalogue.text("fit.int4"))] = False,
        context: Annotated[
            int | None, typer.Option(metavar="N", min=1, help=catalogue.text("fit.context"))
        ] = None,
        concurrency: Annotated[
            int | None, typer.Option(metavar="N", min=1, help=catalogue.text("fit.concurrency"))
        ] = None,
        images: Annotated[
            int, typer.Option(metavar="N", min=0, help=catalogue.text("fit.images"))
        ] = 1,
        image_size: Annotated[
            str | None, typer.Option(metavar="WxH", help=catalogue.text("fit.image_size"))
        ] = None,
        memory: Annotated[
            str | None, typer.Option(metavar="SIZE", help=catalogue.text("fit.memory"))
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help=catalogue.text("inspect.json"))
        ] = False,
    ) -> None:
        from sightline.plan import named_facts, quantization_behind

        if int8 and int4:
            fail(catalogue.text("fit.both"))
        chosen: Quantisation | None = "int8" if int8 else "int4" if int4 else None
        behind = quantization_behind(name)
        if chosen is not None and behind is not None and chosen != behind:
            told = {"model": shorten(name), "behind": behind, "chosen": chosen}
            fail(catalogue.text("fit.twice", **told))
        settings = settings.typed(model=name)
        if chosen is not None:
            settings = settings.typed(quantization=chosen)
        wish = replace(
            wish_of(settings),
            concurrency=concurrency,
            images=images,
            image_size=None if image_size is None else _pixels(image_size, settings.limits),
        )
        if context is not None:
            wish = replace(wish, context=context)
        named = named_facts(name, settings)
        if image_size is not None and named.facts.image_policy is None:
            fail(catalogue.text("fit.no_pictures", model=named.name))
        stored = named.facts.stored
        wanted = wish.quantization.of_model(sees=named.facts.image_policy is not None)
        if stored is not None and wanted and wanted != stored:
            fail(catalogue.text("fit.stored", model=named.spelled, stored=stored))
        if re.fullmatch(r"auto|cpu|cuda(:\d+)?", settings.model.device) is None:
            fail(catalogue.text("fit.no_device", device=shorten(settings.model.device)))
        device = (
            find_device(settings.model.device)
            if memory is None
            else _imagined(settings.model.device, memory)
        )
        if device is None:
            fail(catalogue.text("fit.untold"))
        judgement = judge_named(named, device, wish)
        if as_json:
            print_json(report(named, judgement, settings))
        else:
            print("\n".join(lines(named, judgement, settings)))
        if judgement.fit.verdict == "does not fit":
            raise SystemExit(EXIT_FAILED)


def _pixels(text: str, limits: Limits) -> tuple[int, int]:
    """Read 1280x720, a size that a server with these limits takes."""
    from sightline.media.refusals import size_refusal

    found = re.fullmatch(r"(\d{1,9})[x×*](\d{1,9})", text.strip().lower())
    if found is None or not all(map(int, found.groups())):
        fail(catalogue.text("fit.bad_image_size", value=shorten(text)))
    width, height = int(found[1]), int(found[2])
    refusal = size_refusal(width, height, limits)
    if refusal is not None:
        fail(catalogue.text("fit.image_refused", reason=refusal.message))
    return width, height


def _imagined(name: str, memory: str) -> "DeviceMemory":
    """A device of that much free memory, to plan for a machine that is not this one."""
    from sightline.models.device_memory import DeviceMemory

    free = parse_size(memory)
    if free is None:
        fail(catalogue.text("fit.bad_memory", value=memory))
    device = {"auto": "cpu", "cuda": "cuda:0"}.get(name, name)
    return DeviceMemory(device=device, name=catalogue.text("fit.imagined"), total=free, free=free)


def lines(named: "NamedFacts", judgement: "Judgement", settings: Settings) -> Iterator[str]:
    fit = judgement.fit
    device, print_ = fit.device, fit.footprint
    yield catalogue.text(
        "fit.title", model=named.name, format=format_of(fit), device=device_name(device)
    )
    yield ""
    rows = [(catalogue.text("fit.weights"), size(print_.weight_bytes), "")]
    for part in print_.parts:
        what = catalogue.text("fit.parameters", number=f"{part.num_parameters:,}")
        label = "  " + catalogue.text(f"inspect.part.{part.part}")
        rows.append((label, size(part.num_bytes), what))
    if fit.table_copy_bytes:
        rows.append((catalogue.text("fit.table_copy"), size(fit.table_copy_bytes), ""))
    token = size(print_.kv_token_bytes)
    rows.append(
        (
            catalogue.text("fit.kv"),
            size(fit.kv_bytes),
            catalogue.text(
                "fit.kv_sum", context=f"{fit.context:,}", number=fit.concurrency, token=token
            ),
        )
    )
    width, height = fit.picture
    pixels = {"width": f"{width:,}", "height": f"{height:,}"}
    if fit.policy is not None:
        picture = fit.picture_tokens
        rows.append(
            (
                "  " + catalogue.text("fit.picture"),
                size(picture * print_.kv_token_bytes),
                catalogue.text("fit.picture_sum", tokens=f"{picture:,}", token=token, **pixels),
            )
        )
        rows.append(
            (catalogue.text("fit.cache"), size(fit.cache_bytes), catalogue.text("fit.cache_sum"))
        )
    pictures = catalogue.text("fit.work_images", number=fit.num_encoded, **pixels)
    tokens = catalogue.text("fit.work_tokens", number=f"{fit.step_tokens:,}")
    if device.is_gpu and fit.encode_bytes:
        rows.append((catalogue.text("fit.work"), size(fit.step_bytes), tokens))
        rows.append((catalogue.text("fit.encoding"), size(fit.encode_bytes), pictures))
    else:
        what = pictures if fit.encode_bytes >= fit.step_bytes else tokens
        rows.append((catalogue.text("fit.work"), size(fit.work_bytes), what))
    if fit.recording_bytes:
        estimated = catalogue.text("fit.recordings_sum", number=fit.wish.max_num_seqs)
        rows.append((catalogue.text("fit.recordings"), size(fit.recording_bytes), estimated))
    rows.append((catalogue.text("fit.program"), size(fit.program_bytes), ""))
    if fit.needed > fit.fixed_bytes + fit.kv_bytes:
        extra = fit.needed - fit.fixed_bytes - fit.kv_bytes
        rows.append((catalogue.text("fit.loading"), size(extra), catalogue.text("fit.loading_sum")))
    rows.append((catalogue.text("fit.needed"), size(fit.needed), ""))
    rows.append(
        (
            catalogue.text("fit.available"),
            size(fit.available),
            catalogue.text("fit.free", free=size(device.free), total=size(device.total)),
        )
    )
    yield from columns(rows, "<><")
    longest = named.facts.blueprint.max_positions
    if fit.wish.context is not None and fit.wish.context > longest:
        asked = {"context": f"{fit.wish.context:,}", "longest": f"{longest:,}"}
        yield catalogue.text("fit.context_beyond", model=named.name, **asked)
    is_of_any_size = fit.policy is not None and fit.policy.tokens_per_image is None
    if is_of_any_size and fit.wish.image_size is None:
        yield catalogue.text("fit.largest", **pixels)
    if device.limit:
        yield catalogue.text("fit.limit", limit=device.limit)
    if device.holders:
        held = ", ".join(f"{h.name} ({h.pid}) {size(h.num_bytes)}" for h in device.holders)
        yield catalogue.text("fit.holders", holders=held)
    yield ""
    yield from _verdict(named, judgement, settings)
    yield ""
    yield from _ways(judgement)


def _verdict(named: "NamedFacts", judgement: "Judgement", settings: Settings) -> Iterator[str]:
    fit = judgement.fit
    token = fit.footprint.kv_token_bytes
    if fit.verdict == "fits":
        planned = min(fit.kv_told or fit.kv_planned, fit.kv_room)
        yield catalogue.text("fit.yes", spare=size(fit.available - fit.needed))
        yield catalogue.text(
            "fit.planned",
            size=size(planned),
            tokens=f"{planned // token:,}",
            contexts=f"{planned / (fit.context * token):.1f}",
        )
        served = judgement.served
        if served.verdict == "fits":
            yield catalogue.text("fit.run", command=command(named.spelled, fit, settings))
        else:
            yield catalogue.text("fit.served", missing=size(served.missing))
            yield advice(named.spelled, judgement.best, settings)
    else:
        if fit.verdict == "shorter context":
            yield catalogue.text("fit.shorter", context=f"{fit.context_that_fits:,}")
        else:
            yield catalogue.text("fit.no", missing=size(fit.missing))
        yield from _why_not(fit)
        yield advice(named.spelled, judgement.best, settings)
    device = fit.device
    if not device.has_bfloat16 and fit.footprint.dtype == "bfloat16":
        key = "fit.gpu_without_bfloat16" if device.is_gpu else "fit.cpu_without_bfloat16"
        yield catalogue.text(key)


def _why_not(fit: "Fit") -> Iterator[str]:
    weights = fit.footprint.weight_bytes
    if weights > fit.device.total:
        key = "fit.over_total"
    elif weights > fit.available:
        key = "fit.over_free"
    else:
        return
    yield catalogue.text(
        key,
        weights=size(weights),
        format=format_of(fit),
        total=size(fit.device.total),
        free=size(fit.device.free),
    )


def _ways(judgement: "Judgement") -> list[str]:
    """The model's number formats, each with what it needs and whether that is there."""
    heads = ("format", "weights", "all", "verdict")
    rows = [tuple(catalogue.text(f"fit.column.{name}") for name in heads)]
    for way in judgement.ways:
        verdict = catalogue.text(f"fit.verdict.{way.verdict}", context=f"{way.context_that_fits:,}")
        row = (format_of(way), size(way.footprint.weight_bytes), size(way.needed), verdict)
        rows.append(row)
    return columns(rows, "<>><")


def report(named: "NamedFacts", judgement: "Judgement", settings: Settings) -> dict[str, Any]:
    """Everything as plain values; sizes in bytes."""
    device, best = judgement.fit.device, judgement.best
    return {
        "model": named.name,
        "folder": None if named.folder is None else str(named.folder),
        "verdict": judgement.fit.verdict,
        "verdict_of_serve": judgement.served.verdict,
        "device": {
            "device": device.device,
            "name": device.name,
            "total": device.total,
            "free": device.free,
            "limit": device.limit or None,
            "bfloat16": device.has_bfloat16,
            "holders": [
                {"pid": h.pid, "name": h.name, "bytes": h.num_bytes} for h in device.holders
            ],
        },
        **_numbers(judgement.fit),
        "ways": [{"verdict": way.verdict, **_numbers(way)} for way in judgement.ways],
        "best": None
        if best is None
        else {
            "choice": best.choice,
            "model": best.name or named.name,
            "command": command(best.name or named.spelled, best.fit, settings),
            "verdict": best.fit.verdict,
            **_numbers(best.fit),
        },
    }


def _numbers(fit: "Fit") -> dict[str, Any]:
    chosen = fit.footprint.quantization
    return {
        "dtype": fit.footprint.dtype,
        "quantization": {"language": chosen.language, "vision": chosen.vision},
        "needed": fit.needed,
        "available": fit.available,
        "weights": fit.footprint.weight_bytes,
        "parts": {part.part: part.num_bytes for part in fit.footprint.parts},
        "context": fit.context,
        "concurrency": fit.concurrency,
        "context_that_fits": fit.context_that_fits,
        "kv": fit.kv_bytes,
        "kv_per_token": fit.footprint.kv_token_bytes,
        "image": None
        if fit.policy is None
        else dict(zip(("width", "height"), fit.picture, strict=True))
        | {"tokens": fit.picture_tokens},
        "kv_per_image": fit.picture_tokens * fit.footprint.kv_token_bytes,
        "kv_planned": min(fit.kv_told or fit.kv_planned, fit.kv_room),
        "step": fit.step_bytes,
        "encode": fit.encode_bytes,
        "image_cache": fit.cache_bytes,
        "table_copy": fit.table_copy_bytes,
        "recordings": fit.recording_bytes,
        "program": fit.program_bytes,
        "loading": fit.loading_bytes,
    }
