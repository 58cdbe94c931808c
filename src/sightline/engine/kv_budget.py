"""How much memory keys and values get. No torch: `sightline fit` asks before anything is loaded."""

GIB = 1024**3
# A small model's memory is small: more full contexts than these at once help nobody.
MANY_CONTEXTS = 32
# A share of a CPU's memory that is never taken.
CPU_SHARE = 4
# Of what is free, this much is left to others on a CPU: the page cache, the front, the shell.
LEFT_PERCENT = 5
# A context shorter than this answers nothing.
MIN_SLOTS = 64
# Tokens of one step: enough to keep the cores busy, few enough that a chunk of somebody's long
# prompt does not hold up the answers of the others for long.
CPU_TOKENS, GPU_TOKENS = 512, 4096


def cpu_kv_bytes(*, context_bytes: int, machine_bytes: int | None, free_bytes: int | None) -> int:
    """Return the budget on a CPU, where nobody names one.

    As many full contexts as fit 1 GiB, at least one and at most `MANY_CONTEXTS`, never over a
    quarter of the machine, nor over what is free. None: nobody can tell.
    """
    budget = min(max(GIB, context_bytes), MANY_CONTEXTS * context_bytes)
    if machine_bytes is not None:
        budget = min(budget, machine_bytes // CPU_SHARE)
    return budget if free_bytes is None else min(budget, left_of(free_bytes))


def gpu_kv_bytes(*, total_bytes: int, free_bytes: int, utilization: float, step_bytes: int) -> int:
    """Return the budget on a GPU: what is free beside the weights, but for what steps need.

    `utilization` is the share of the device that may be full in the end, others' part included.
    """
    return max(0, free_bytes - step_bytes - round((1 - utilization) * total_bytes))


def left_of(free_bytes: int) -> int:
    """Return what may be taken of a CPU's free memory."""
    return free_bytes * (100 - LEFT_PERCENT) // 100
