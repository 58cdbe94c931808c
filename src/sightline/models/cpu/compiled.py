"""The compiled kernels, if there are any for this processor."""

import ctypes
import logging
import sys
import zlib
from collections.abc import Callable
from ctypes import c_float, c_int32, c_int64, c_uint32, c_void_p
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sightline.models.device_memory import cpu_flags

logger = logging.getLogger(__name__)

# As torch calls what it uses of a processor; it may be told to use less (ATEN_CPU_CAPABILITY).
KINDS = {"AVX2": "avx2", "AVX512": "avx512"}
_THREADS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
_num_threads = ctypes.c_int


class Segment(ctypes.Structure):
    _fields_ = (
        ("first_row", c_int64), ("num_new", c_int64), ("num_cached", c_int64), ("table", c_void_p),
    )  # fmt: skip


class Attention(ctypes.Structure):
    """See `attention.c`; all pointers are to memory that the caller keeps."""

    _fields_ = (
        *((name, c_void_p) for name in ("query", "key", "value")),
        *((name, c_int64) for name in ("query_stride", "key_stride", "value_stride")),
        *((name, c_void_p) for name in ("cosines", "sines", "query_scales")),
        *((name, c_int32) for name in ("partners_are_neighbours", "is_bfloat16")),
        *((name, c_void_p) for name in ("keys", "values", "segments", "new_slots", "out", "room")),
        *((name, c_int64) for name in (
            "room_per_thread", "num_rows", "num_segments", "num_heads", "num_groups", "head_dim",
            "block_size",
        )),
        ("scale", c_float),
        *((name, c_int64) for name in ("rows_at_once", "heads_at_once", "next")),
    )  # fmt: skip


class Matrix(ctypes.Structure):
    """A matrix in panels and what is known of it; see `decoder.c`."""

    _fields_ = (
        *((name, c_void_p) for name in ("panels", "scales", "bias")),
        *((name, c_int64) for name in (
            "num_inputs", "num_panels", "num_outputs", "rounds_rows", "is_grouped",
        )),
    )  # fmt: skip


# Matrices of a layer that make queries, keys and values: one or three.
MOST_HEADS = 3


class Layer(ctypes.Structure):
    """A decoder layer's norms and matrices; see `decoder.c`."""

    _fields_ = (
        *((name, c_void_p) for name in ("attention_norm", "mlp_norm")),
        ("heads", Matrix * MOST_HEADS), ("mixed", Matrix),
        ("gate_up", Matrix * 2), ("down", Matrix),
    )  # fmt: skip


class Decoder(ctypes.Structure):
    """All layers of a decoder; see `decoder.c`."""

    _fields_ = (
        ("layers", c_void_p), ("num_layers", c_int64), ("width", c_int64), ("eps", c_float),
    )  # fmt: skip


class Picture(ctypes.Structure):
    """See `picture_attention.c`; all pointers are to memory that the caller keeps."""

    _fields_ = (
        *((name, c_void_p) for name in ("query", "key", "value")),
        *((name, c_int64 * 3) for name in ("query_strides", "key_strides", "value_strides")),
        *((name, c_void_p) for name in ("out", "room")),
        *((name, c_int64) for name in ("num_items", "num_rows", "num_heads", "head_dim")),
        ("scale", c_float),
        *((name, c_int64) for name in ("room_per_thread", "num_parts", "next")),
    )  # fmt: skip


class Products(NamedTuple):
    """Products with weights of two bytes: see `products.c` and `rounded_products.c`."""

    lay_out: Callable[..., None]
    room: Callable[[int, int, int], int]
    multiply: Callable[..., None]


class Kernels:
    """The functions of one library; pointers are to memory that the caller keeps."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        library.sources.restype = c_uint32
        if library.sources() != sum_of_sources():
            raise OSError(f"{path.name} was compiled from other sources")
        # The OpenMP that torch runs on: one pool of threads for both, and they are awake.
        openmp = ctypes.CDLL(None)
        library.use_threads(*(ctypes.cast(getattr(openmp, name), c_void_p) for name in _THREADS))

        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, name)
            found.restype, found.argtypes = result, arguments
            return found

        self.panel_width: int = function("panel_width", c_int64)()
        self.head_multiple: int = function("head_multiple", c_int64)()

        def products(lay_out: str, room: str, multiply: str) -> Products:
            return Products(
                function(lay_out, None, c_void_p, c_int64, c_int64, ctypes.c_int, c_void_p),
                function(room, c_int64, c_int64, c_int64, _num_threads),
                function(
                    multiply, None,
                    c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_int64,
                    ctypes.c_int, c_void_p, c_int64, c_void_p, _num_threads,
                ),
            )  # fmt: skip

        self.products = products("lay_out_weights", "room_needed", "multiply")
        self.rounded_products: Products | None = None
        if hasattr(library, "multiply_rounded"):
            self.rounded_products = products(
                "lay_out_rounded_weights", "rounded_room", "multiply_rounded"
            )
            self.most_picture_width: int = function("most_picture_width", c_int64)()
            self.picture_room = function("picture_room", c_int64, c_int64, c_int64)
            self.attend_to_all = function("attend_to_all", None, c_void_p, _num_threads)
        self.norm_rows = function(
            "norm_rows", None, c_void_p, c_int64, c_int64, c_void_p, c_float, c_void_p, _num_threads
        )
        self.layer_norm_rows = function(
            "layer_norm_rows", None,
            c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_float, c_void_p, c_void_p,
            _num_threads,
        )  # fmt: skip
        self.turn_halves = function(
            "turn_halves", None,
            c_void_p, c_int64, c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64,
            _num_threads,
        )  # fmt: skip
        self.gate_rows = function(
            "gate_rows", None, c_void_p, c_int64, c_int64, c_void_p, _num_threads
        )
        self.has_whole_products = hasattr(library, "multiply_whole")
        if self.has_whole_products:
            self.whole_room = function("whole_room", c_int64, c_int64, c_int64)
            self.lay_out_whole_weights = function(
                "lay_out_whole_weights", None, c_void_p, c_int64, c_int64, c_void_p
            )
            self.multiply_whole = function(
                "multiply_whole", None,
                c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_void_p,
                c_int64, ctypes.c_int, c_void_p, c_int64, c_void_p, _num_threads,
            )  # fmt: skip
            self.groups_room = function("groups_room", c_int64, c_int64, c_int64)
            self.lay_out_group_weights = function(
                "lay_out_group_weights", None, c_void_p, c_void_p, c_int64, c_int64, c_void_p
            )
            self.multiply_groups = function(
                "multiply_groups", None,
                c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_int64,
                ctypes.c_int, c_void_p, c_int64, c_void_p, _num_threads,
            )  # fmt: skip
        self.as_team = function("as_team", None, _num_threads, c_void_p, c_void_p)
        self.attention_room = function("attention_room", c_int64, c_int64, c_int64)
        self.attend = function("attend", None, c_void_p, _num_threads)
        self.decoder_room = function("decoder_room", c_int64, c_void_p, c_int64, _num_threads)
        self.decode = function(
            "decode", None,
            c_void_p, c_int64, c_int64, c_void_p, c_void_p, c_void_p, c_int64, c_void_p,
            c_void_p, c_int64, c_void_p, _num_threads,
        )  # fmt: skip


def sum_of_sources() -> int:
    """Return what `hatch_build.py` compiles into libraries."""
    paths = sorted(Path(__file__).parent.glob("*.[ch]"))
    return zlib.crc32(b"".join(path.read_bytes() for path in paths))


def kind_of_processor() -> str | None:
    """Return which library is for this processor; None where there is none to be made."""
    if sys.platform != "linux":
        return None
    kind = KINDS.get(torch.backends.cpu.get_cpu_capability())
    if kind != "avx512" or "avx512_vnni" not in cpu_flags():
        return kind
    # Old compilers do not know what the last one needs.
    knows = path_of("avx512bf16").exists() or not path_of("avx512vnni").exists()
    return "avx512bf16" if "avx512_bf16" in cpu_flags() and knows else "avx512vnni"


def path_of(kind: str) -> Path:
    return Path(__file__).with_name(f"kernels_{kind}.so")


def load(kind: str) -> Kernels | None:
    """Return the library of that kind, None where it was not compiled.

    Raises OSError or AttributeError where it cannot be used.
    """
    path = path_of(kind)
    return Kernels(path) if path.exists() else None


@lru_cache
def kernels() -> Kernels | None:
    """Return those for this processor; None where they were not built or cannot run."""
    kind = kind_of_processor()
    try:
        return None if kind is None else load(kind)
    except (OSError, AttributeError) as error:
        logger.warning("our own kernels cannot be used, torch's take over: %s", error)
        return None
