"""In which number format a model is loaded where nobody says so. No torch.

A processor without bfloat16 arithmetic computes in fp32 whatever the weights are, and pays for
converting them in every step: three times the time of fp32 weights from some ten rows on. fp32
weights take twice the memory, so they are chosen only where there is plenty.
"""

FP32_BYTES = 4


def is_better_as_float32(
    dtype: str, *, has_bfloat16: bool, num_parameters: int, free_bytes: int
) -> bool:
    """Whether a checkpoint in `dtype` is loaded as float32 on a CPU.

    That is where the processor does not compute in bfloat16, and float32 weights leave half of
    the free memory free.
    """
    if dtype != "bfloat16" or has_bfloat16:
        return False
    return 2 * FP32_BYTES * num_parameters <= free_bytes
