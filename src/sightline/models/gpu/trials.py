"""What a GPU may not survive: noted before it is tried, so that the next process can leave it out.

A kernel that raises, or computes something else, is passed over where it is tried. But one that
reads where it must not takes the device from the whole process, one that waits for ever takes its
time, and a compiler that crashes takes its life. Then whoever supervises the process has to know
what was on trial, and starts another one without it.

What is off, and who is told, holds for the whole process: a process has one device to lose.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from sightline.core.engine_options import OWN_KERNELS, KernelName
from sightline.core.errors import StartupError
from sightline.models.device import is_lost

Note = Callable[[KernelName | None], None]
"""Is told what is on trial from now on; None when that is over, and the device still there."""


class LeftOut(Exception):
    """What would be tried shall not be."""


class KernelsLost(StartupError):
    """The device was lost on a trial; nothing more can be computed in this process."""

    def __init__(self, name: KernelName, device: torch.device) -> None:
        super().__init__(
            f"{device} was lost while {name} kernels were tried; --without-kernels {name} starts "
            "without them."
        )
        self.name = name


@dataclass
class _Trials:
    off: frozenset[KernelName] = frozenset()
    note: Note = lambda name: None
    running: KernelName | None = None


_trials = _Trials()


def prepare(off: Iterable[KernelName] = (), note: Note = lambda name: None) -> None:
    """Say what shall not be tried, and who is to know what is being tried."""
    _trials.off, _trials.note, _trials.running = frozenset(off), note, None


@contextmanager
def trial(name: KernelName, device: torch.device) -> Iterator[None]:
    """Let `name` be known as being tried; a trial within another one stands for it meanwhile.

    Raises `LeftOut` where that is wanted; and `KernelsLost`, whatever the block itself raised, if
    the device does not work any more.
    """
    if name in _trials.off or ("own" in _trials.off and name in OWN_KERNELS):
        raise LeftOut("without_kernels")
    before, _trials.running = _trials.running, name
    _trials.note(name)
    try:
        yield
    except KernelsLost:  # on a trial within this one: that is the one to know of
        raise
    except BaseException:
        _end(name, before, device)
        raise
    _end(name, before, device)


def _end(name: KernelName, before: KernelName | None, device: torch.device) -> None:
    if is_lost(device):
        raise KernelsLost(name, device)
    _trials.running = before
    _trials.note(before)


def all_together(device: torch.device) -> AbstractContextManager[None]:
    """Return the trial of all kernels that passed their own; none where there are none of ours."""
    has_none = device.type != "cuda" or "own" in _trials.off
    return nullcontext() if has_none else trial("own", device)
