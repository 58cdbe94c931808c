import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline import __version__
from sightline.cli import catalogue
from sightline.cli.columns import size
from sightline.cli.options import names_of, takes_settings
from sightline.cli.terminal import ProgressBar, ends_cleanly, note
from sightline.settings import Settings, rows

if TYPE_CHECKING:
    import subprocess

    from sightline.core.engine import EngineInfo
    from sightline.engine.fit import Fit
    from sightline.plan import Plan

# A red circle on white, 64 pixels wide.
EXAMPLE_PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEX////mHh7W433QAAAAcklEQVR42s3QsQ3CMBSE"
    "4c/PSKRkBDYhbO4RGCEjuIwQiilMCgsKyvzV6e6e9HQcj3P9iNuGjCWlIkjMvdJaJZiYiP00uHAiuBJjNJNGp5MpSOU7"
    "+kdkzNx/dwptdBY2gsprjFZWgicPgtZ/29cY9jkAb7FqFwcNkzldAAAAAElFTkSuQmCC"
)


def register(app: typer.Typer) -> None:
    @app.command(help=catalogue.text("serve.help"))
    @ends_cleanly
    @takes_settings(*names_of("server", "model", "media", leaving_out=["model"]))
    def serve(
        settings: Settings,
        model: Annotated[
            str | None,
            typer.Argument(metavar="MODEL", help=catalogue.setting("model", rows()["model"].what)),
        ] = None,
    ) -> None:
        # `model` reached the settings as a flag.
        del model
        run(settings)


def run(settings: Settings) -> None:
    """Serve until a signal. The port is taken and the model folder looked at before all else."""
    began = time.monotonic()
    # Until the server takes signals itself, nothing runs that would have to be drained.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: sys.exit(0))
    from sightline import assembly
    from sightline import plan as plans
    from sightline.cli.fitting import as_estimated, require_fit

    if missing := plans.missing_model(settings):
        from sightline.cli.downloading import fetch_missing

        # A port that is taken is said now; held, it would keep clients waiting for an hour.
        with plans.listen(settings):
            pass
        fetch_missing(missing, settings)
    with assembly.engine_ahead(settings) as waiting:
        estimate = require_fit(settings)
        _serve(as_estimated(settings, estimate), estimate, began, waiting)
    note(catalogue.text("serve.stopped"))


def _serve(
    settings: Settings,
    estimate: "Fit | None",
    began: float,
    waiting: "subprocess.Popen[bytes] | None",
) -> None:
    from sightline import assembly
    from sightline import plan as plans

    with plans.listen(settings) as listener:
        plan = plans.plan(settings, listener)
        if plan.new_api_key is not None:
            print(catalogue.text("serve.new_key", api_key=plan.new_api_key))
            print(catalogue.text("serve.keep_key"))
        note(catalogue.text("serve.listening", version=__version__, url=listener.url))
        bar = ProgressBar(catalogue.text("serve.loading", model=plan.model_id))

        def show_ready(info: "EngineInfo", names: tuple[str, ...]) -> None:
            bar.clear()
            print("\n".join(banner(plan, info, names, time.monotonic() - began)), flush=True)
            if info.weight_bytes:
                note(memory_line(info, estimate))

        def show_stopping() -> None:
            note(catalogue.text("serve.stopping"))

        try:
            assembly.serve(
                plan,
                on_progress=bar.update,
                on_ready=show_ready,
                on_stopping=show_stopping,
                waiting=waiting,
            )
        finally:
            bar.clear()


def banner(plan: "Plan", info: "EngineInfo", names: tuple[str, ...], seconds: float) -> list[str]:
    """Say what is served where, and how to ask it: a command to paste that works as it is."""
    details = f"{info.dtype}, {info.device}"
    if info.num_parameters:
        number = catalogue.text("serve.parameters", number=_count(info.num_parameters))
        details = f"{number}, {details}"
    body = {"model": names[0], "messages": [{"role": "user", "content": _example_content(info)}]}
    url = plan.listener.url
    key = "  -H 'Authorization: Bearer KEY' \\" if plan.wants_key else None
    return [
        catalogue.text(
            "serve.ready", seconds=seconds, model=info.model_id, details=details, url=url
        ),
        catalogue.text("serve.names", names=", ".join(names)),
        catalogue.text("serve.ask"),
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\",
        *([key] if key else []),
        f"  -d '{json.dumps(body, ensure_ascii=False)}'",
        catalogue.text("serve.stop"),
    ]


def memory_line(info: "EngineInfo", estimate: "Fit | None") -> str:
    """Say what was measured, and beside it what was told before anything was loaded."""
    measured = catalogue.text(
        "serve.memory",
        weights=size(info.weight_bytes),
        kv=size(info.kv_bytes),
        tokens=f"{info.kv_slots:,}",
        held=size(info.held_bytes),
    )
    if estimate is None:
        return measured
    return measured + catalogue.text(
        "serve.estimated",
        weights=size(estimate.footprint.weight_bytes),
        all=size(estimate.fixed_bytes + estimate.kv_planned),
    )


def _example_content(info: "EngineInfo") -> Any:
    if info.image_policy is None:
        return catalogue.text("serve.greeting")
    return [
        {"type": "text", "text": catalogue.text("ask.question")},
        {"type": "image_url", "image_url": {"url": EXAMPLE_PICTURE}},
    ]


def _count(number: int) -> str:
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if number >= unit:
            return f"{number / unit:.1f} {letter}"
    return str(number)
