"""Which steps of decodes are recorded on a GPU, and the memory that recordings take. No torch."""

from sightline.core.limits import MIB

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
# A recording keeps its launches on the device: hundreds of kernels and their arguments. Servers
# with models of this size were seen to take ten to twenty MiB for each.
RECORDING_BYTES = 16 * MIB
# What libraries set aside for the stream on which steps are recorded.
LIBRARY_BYTES = 64 * MIB


def sizes_up_to(max_seqs: int) -> tuple[int, ...]:
    """Return the batch sizes to record; the last one holds `max_seqs`, or is the largest of all."""
    fitting = tuple(size for size in SIZES if size < max_seqs)
    return (*fitting, min(max_seqs, SIZES[-1]))


def recording_bytes(max_seqs: int, *, step_bytes: int, score_bytes: int) -> int:
    """Return what recording all sizes takes.

    `step_bytes` are those of the largest step, in memory that all recordings share; `score_bytes`
    are one row's scores, kept for the largest step.
    """
    sizes = sizes_up_to(max_seqs)
    kept = len(sizes) * RECORDING_BYTES + sizes[-1] * score_bytes
    return step_bytes + kept + LIBRARY_BYTES
