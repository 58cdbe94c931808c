"""A download as people see it: what will come, how far it is, and where it is in the end."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sightline.cli import catalogue
from sightline.cli.terminal import note
from sightline.core.errors import StartupError
from sightline.hub.names import KnownModel
from sightline.hub.pull import Download, Pulled
from sightline.hub.remote import HUBS, HubName, RemoteFile
from sightline.settings import Settings, cache_dir, hub_endpoints, hub_variables, hubs_are_offline

PLAIN_EVERY_S = 10.0
# The rate is that of the last seconds, and so is the time that is left.
RATE_OVER_S = 15.0

Style = Literal["bars", "lines", "quiet"]


def download(
    model: KnownModel,
    *,
    hub: HubName | None = None,
    into: Path | None = None,
    offline: bool = False,
    quiet: bool = False,
    before: Callable[[Download], None] = lambda download: None,
) -> Pulled:
    """Pull `model` and say so. `before` may raise StartupError when it knows what will come."""
    from sightline.hub.pull import pull

    with _arrangement(hub, quiet=quiet, offline=offline, before=before) as arranged:
        return pull(model, into or models_dir(), **arranged)


def verify_model(
    model: KnownModel, folder: Path, *, hub: HubName | None, offline: bool, quiet: bool
) -> None:
    """Check a model that was pulled, fetch again what is damaged, and say so."""
    from sightline.hub.verify import verify

    def checking(files: Sequence[RemoteFile]) -> None:
        weight = size(sum(file.size for file in files))
        if not quiet:
            note(catalogue.text("verify.checking", files=len(files), size=weight, folder=folder))

    def damaged(file: RemoteFile) -> None:
        if not quiet:
            note(catalogue.text("verify.damaged", file=file.name))

    with _arrangement(hub, quiet=quiet, offline=offline) as arranged:
        found = verify(model, folder, checking=checking, damaged=damaged, **arranged)
    if quiet:
        return
    told = {"model": model.name, "folder": folder, "files": len(found.files)}
    weight, anew = size(found.size_bytes), len(found.anew)
    print(catalogue.text("verify.anew" if anew else "verify.whole", size=weight, anew=anew, **told))
    if found.num_without_hash:
        print(catalogue.text("verify.no_hash", number=found.num_without_hash))


@contextmanager
def _arrangement(
    hub: HubName | None,
    *,
    quiet: bool,
    offline: bool,
    before: Callable[[Download], None] = lambda download: None,
) -> Iterator[dict[str, Any]]:
    """Yield what `pull` and `verify` have in common: which hubs, and who hears what of it."""
    style: Style = "quiet" if quiet else "bars" if sys.stderr.isatty() else "lines"
    mirrors, told = hub_endpoints(), hub_variables()
    with _shown(style) as display:

        def announce(coming: Download) -> None:
            if not quiet:
                note("\n".join(announcement(coming)))
            before(coming)
            display.begin(coming)

        def turned_away(reason: StartupError) -> None:
            if not quiet:
                note(catalogue.text("pull.other_hub", reason=catalogue.error(reason)))

        try:
            yield {
                "hubs": list(HUBS) if hub is None else [hub],
                "endpoints": {name: mirrors[name] for name in HUBS if name in mirrors},
                "variables": {name: told[name] for name in HUBS if name in told},
                "announce": announce,
                "progress": display.update,
                "turned_away": turned_away,
                "offline": offline or hubs_are_offline(),
            }
        except (KeyboardInterrupt, SystemExit):
            display.end()
            note(catalogue.text("pull.kept"))
            raise


def fetch_missing(model: KnownModel, settings: Settings) -> None:
    """Download a model that somebody wants to run here, if it fits. Raises StartupError if not."""
    offline = settings.model.offline or hubs_are_offline()
    if not offline:
        verdict = fit_line(settings)
        note(catalogue.text("pull.automatic", model=model.name))
    download(model, offline=offline, before=lambda coming: note(verdict) if verdict else None)


def fit_line(settings: Settings) -> str | None:
    """Say how the model fits, None where nobody knows. Raises StartupError when it does not."""
    from sightline.cli.columns import size as exact_size
    from sightline.cli.fitting import device_name, format_of, require_fit

    fit = require_fit(settings)
    if fit is None or fit.verdict == "does not fit":
        return None
    return catalogue.text(
        "pull.fits",
        format=format_of(fit),
        needed=exact_size(min(fit.needed, fit.available)),
        available=exact_size(fit.available),
        device=device_name(fit.device),
    )


def models_dir() -> Path:
    """Where downloads go, and one of the folders in which models are found by name."""
    return cache_dir() / "models"


def announcement(coming: Download) -> list[str]:
    """Say what will come, from where, to where, and on what terms."""
    lines = [
        catalogue.text(
            "pull.coming",
            model=coming.model.name,
            size=size(coming.size_bytes),
            files=len(coming.files),
            hub=coming.listing.hub,
            repository=coming.listing.repository,
        ),
        catalogue.text("pull.to", folder=coming.folder, free=size(coming.free_bytes)),
        catalogue.text("pull.licence", licence=coming.model.licence),
    ]
    if coming.weights_have_begun:
        lines.append(catalogue.text("pull.resumed", here=size(coming.here_bytes)))
    return lines


def size(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class Rate:
    """Bytes per second over the last seconds, from marks of how much is here."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: list[tuple[float, int]] = []

    def mark(self, here: int) -> None:
        now = self._clock()
        self._marks.append((now, here))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_OVER_S:
            self._marks.pop(0)

    @property
    def bytes_per_s(self) -> float:
        if len(self._marks) < 2:
            return 0.0
        (began, first), (ended, last) = self._marks[0], self._marks[-1]
        return max(last - first, 0) / (ended - began) if ended > began else 0.0


class _Quiet:
    def begin(self, coming: Download) -> None: ...

    def update(self, file: RemoteFile, done: int) -> None: ...

    def end(self) -> None: ...


class _Lines(_Quiet):
    """A line now and then, for logs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: Download | None = None
        self._here: dict[str, int] = {}
        self._rate = Rate()
        self._said_at = 0.0

    def begin(self, coming: Download) -> None:
        with self._lock:
            self._here = _of(coming, self._here)
            self._coming = coming
            self._said_at = time.monotonic()

    def update(self, file: RemoteFile, done: int) -> None:
        with self._lock:
            self._here[file.name] = done
            now = time.monotonic()
            if self._coming is None or now - self._said_at < PLAIN_EVERY_S:
                return
            self._said_at = now
            here, total = sum(self._here.values()), self._coming.size_bytes
            self._rate.mark(here)
            note(progress_line(here, total, self._rate.bytes_per_s))


def _of(coming: Download, here: dict[str, int]) -> dict[str, int]:
    """Keep what is here of the files that come; another hub may have others."""
    return {file.name: here[file.name] for file in coming.files if file.name in here}


def progress_line(here: int, total: int, bytes_per_s: float) -> str:
    """Return one line of a log: share, sizes, and once a rate is known, that and the rest."""
    share = here / total if total else 1.0
    line = f"  {share:4.0%}  {here / 1e9:.2f} of {total / 1e9:.2f} GB"
    if bytes_per_s:
        left = catalogue.text("pull.left", time=duration((total - here) / bytes_per_s))
        line += f"  {bytes_per_s / 1e6:.1f} MB/s  {left}"
    return line


class _Bars(_Quiet):
    """A bar for everything, and one for each file that comes."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            expand=True,
        )
        self._lock = threading.Lock()
        self._here: dict[str, int] = {}
        self._tasks: dict[str, Any] = {}
        self._total: Any = None

    def begin(self, coming: Download) -> None:
        with self._lock:
            self._here = _of(coming, self._here)
            for task in self._bars.task_ids:  # of a hub that turned us away
                self._bars.remove_task(task)
            self._tasks.clear()
            self._total = self._bars.add_task(
                coming.model.name, total=coming.size_bytes, completed=sum(self._here.values())
            )
        self._bars.start()

    def update(self, file: RemoteFile, done: int) -> None:
        with self._lock:
            self._here[file.name] = done
            if self._total is None:
                return
            self._bars.update(self._total, completed=sum(self._here.values()))
            if done >= file.size:
                if file.name in self._tasks:
                    self._bars.remove_task(self._tasks.pop(file.name))
            elif file.name in self._tasks:
                self._bars.update(self._tasks[file.name], completed=done)
            else:
                self._tasks[file.name] = self._bars.add_task(
                    f"  {file.name}", total=file.size, completed=done
                )

    def end(self) -> None:
        self._bars.stop()


@contextmanager
def _shown(style: Style) -> Iterator[_Quiet]:
    display = {"bars": _Bars, "lines": _Lines, "quiet": _Quiet}[style]()
    try:
        yield display
    finally:
        display.end()
