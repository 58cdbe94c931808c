"""What torch sees on this machine, as a line of JSON: `python -m sightline.engine.probe`.

It runs in a process of its own: a torch that does not fit the machine may end that process. Then
it waits for a line with the arguments of `engine.host` and becomes that engine, so that torch is
not loaded twice; or it ends with its standard input.
"""

import dataclasses
import json
import os
import sys
import time
from typing import Any

from sightline.engine import host

_STDOUT, _STDERR = 1, 2


def probe() -> dict[str, Any]:
    """Return the facts that `sightline doctor` judges."""
    began = time.monotonic()
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    from sightline.models.device_memory import cpu_has_bfloat16

    return {
        "version": torch.__version__,
        "seconds": time.monotonic() - began,
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "has_bfloat16": cpu_has_bfloat16(),
        "num_threads": torch.get_num_threads(),
        "kernels": _kernels(),
        **_cuda(torch),
    }


def _kernels() -> dict[str, str]:
    try:
        from sightline.models.cpu.state import kernel_state

        return dataclasses.asdict(kernel_state())
    except Exception as error:  # whatever a torch that is too old lacks
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        return {"state": "unusable", "kind": "", "problem": problem}


def _cuda(torch: Any) -> dict[str, Any]:
    try:
        if not torch.cuda.is_available():
            if torch.version.cuda:
                torch.cuda.init()  # says why
            return {"gpus": []}
        gpus = [_gpu(torch, index) for index in range(torch.cuda.device_count())]
        return {"gpus": gpus, "architectures": torch.cuda.get_arch_list()}
    except (RuntimeError, AssertionError) as error:
        return {"gpus": [], "cuda_error": (str(error).splitlines() or ["?"])[0]}


def _gpu(torch: Any, index: int) -> dict[str, Any]:
    free, total = torch.cuda.mem_get_info(index)
    major, minor = torch.cuda.get_device_capability(index)
    name = torch.cuda.get_device_name(index)
    return {"name": name, "capability": [major, minor], "free": free, "total": total}


def main() -> None:
    host.prepare_threads(None)
    host.number_gpus_by_slot()
    print(json.dumps(probe()), flush=True)
    os.dup2(_STDERR, _STDOUT)  # what libraries print belongs to the log
    if arguments := sys.stdin.readline():
        host.run_to_the_end(json.loads(arguments))


if __name__ == "__main__":
    main()
