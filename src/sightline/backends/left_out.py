"""Which kernels of a GPU the next engine process goes without, by how those before it ended."""

import math

from sightline.core.engine_options import KernelName

# Two deaths within this time are no coincidence.
REMEMBERED_S = 3600.0


class LeftOut:
    """Collects names. Times are of `time.monotonic`."""

    def __init__(self, names: tuple[KernelName, ...]) -> None:
        self.names = names
        self._died_at = -math.inf

    def after_start(self, on_trial: KernelName | None) -> KernelName | None:
        """Note that a process ended while it tried such kernels; return what is newly left out."""
        return self._add(on_trial)

    def after_service(self, now: float) -> KernelName | None:
        """Note that a process on a GPU died among requests; the second time it may be our kernels.

        The first time too, but a device has failures of its own, and is slow without kernels.
        """
        is_second = now - self._died_at <= REMEMBERED_S
        self._died_at = now
        return self._add("own") if is_second else None

    def _add(self, name: KernelName | None) -> KernelName | None:
        if name is None or name in self.names:
            return None
        self.names = (*self.names, name)
        return name
