"""Failures on purpose, to rehearse what happens around them. Never on in production.

A prompt that holds one of the chosen token ids triggers its failure at its first prefill, as a
model bug that only one input meets would.
"""

import os
import signal
import threading
import time

from torch import Tensor

from sightline.core.engine_options import FaultOptions
from sightline.engine.contract import Runner
from sightline.engine.sequence import Sequence


class FaultyRunner:
    """Implements `contract.Runner` on top of another one."""

    def __init__(self, runner: Runner, faults: FaultOptions) -> None:
        self._runner = runner
        self._faults = faults

    def start(self, sequence: Sequence) -> None:
        self._runner.start(sequence)

    def encode(self, sequence: Sequence, start: int, end: int) -> None:
        self._runner.encode(sequence, start, end)

    def prefill(self, sequence: Sequence, start: int, end: int) -> Tensor | None:
        time.sleep(self._faults.step_delay_s)
        if self._faults.raise_token in sequence.prompt:
            raise RuntimeError("a fault on purpose")
        if self._faults.hang_token in sequence.prompt:
            threading.Event().wait()
        if self._faults.kill_token in sequence.prompt:
            os.kill(os.getpid(), signal.SIGKILL)
        logits = self._runner.prefill(sequence, start, end)
        if logits is not None and self._faults.nan_token in sequence.prompt:
            return logits * float("nan")
        return logits

    def decode(self, sequence: Sequence) -> Tensor:
        time.sleep(self._faults.step_delay_s)
        return self._runner.decode(sequence)

    def release(self, sequence: Sequence) -> None:
        self._runner.release(sequence)

    def check_device(self) -> None:
        self._runner.check_device()
