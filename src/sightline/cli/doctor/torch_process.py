"""The process in which torch is loaded, once for all that the doctor wants of it."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import Any, Self

from sightline.cli.doctor.machine import CpuKernels, Gpu, Torch

TIMEOUT_S = 180.0


class TorchProcess:
    """Says what torch sees, then waits to become the engine of the self-test.

    `process` is that of `engine.probe`; this one never imports torch. To be made on a thread that
    outlives it: the kernel ends an engine with the thread that started it.
    """

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            # -P: a file called torch.py in the working directory must not be imported.
            [sys.executable, "-P", "-u", "-m", "sightline.engine.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        self._log.close()

    def ask(self) -> Torch:
        """Wait for the facts."""
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self.process.kill()

        timer = threading.Timer(self._timeout_s, end)
        timer.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        timer.cancel()
        if is_late.is_set():
            return Torch(error=f"no answer within {self._timeout_s:g} s", is_silent=True)
        try:
            return _read(json.loads(line))
        except ValueError:
            status = self.process.wait()
            lines = self.log().strip().splitlines()
            return Torch(error=lines[-1] if lines else f"ended with {status}")

    def log(self) -> str:
        """Return what the process has written to its standard error."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


def _read(facts: dict[str, Any]) -> Torch:
    if "error" in facts:
        return Torch(error=facts["error"])
    return Torch(
        version=facts["version"],
        seconds=facts["seconds"],
        cuda=facts["cuda"],
        hip=facts["hip"],
        has_bfloat16=facts["has_bfloat16"],
        kernels=CpuKernels(**facts["kernels"]),
        gpus=tuple(
            Gpu(
                name=gpu["name"],
                capability=(gpu["capability"][0], gpu["capability"][1]),
                free=gpu["free"],
                total=gpu["total"],
            )
            for gpu in facts["gpus"]
        ),
        architectures=tuple(facts.get("architectures", ())),
        cuda_error=facts.get("cuda_error"),
    )
