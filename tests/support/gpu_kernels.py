"""What tests of the GPU's kernels share: where they run, and Triton without a GPU.

Kernels run in Triton's interpreter where there is no GPU. Import this before them: they look at
the environment when they are imported.
"""

import importlib.util
import os
from functools import cache
from typing import Any

import pytest
import torch

from sightline.models.gpu.backend import AttentionBackend
from sightline.models.gpu.gather_attention import GatherBackend

HAS_GPU = torch.cuda.is_available()
HAS_TRITON = importlib.util.find_spec("triton") is not None
if not HAS_GPU:
    os.environ.setdefault("TRITON_INTERPRET", "1")

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def needs_triton() -> None:
    if not HAS_TRITON:
        pytest.skip("Triton is not installed")
    if not HAS_GPU:
        _let_the_interpreter_count()


def needs_the_interpreter() -> None:
    """For kernels on the CPU's tensors."""
    needs_triton()
    if HAS_GPU:
        pytest.skip("nothing is interpreted where there is a GPU")


@cache
def _let_the_interpreter_count() -> None:
    """Its loops end at arrays of one number, which are none for a new NumPy (Triton 3.6)."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.squeeze())

    interpreter._patch_lang_tensor = patched


def attention_backend(name: str) -> AttentionBackend:
    if name == "sdpa":
        return GatherBackend()
    if name == "varlen":
        from sightline.models.gpu.varlen_attention import VarlenBackend

        try:
            return VarlenBackend()
        except (RuntimeError, ImportError) as error:
            pytest.skip(str(error))
    needs_triton()
    from sightline.models.gpu.triton_attention import TritonBackend

    return TritonBackend()


def let_the_interpreter_multiply_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps such numbers as whole ones of 16 bits, and multiplies those (Triton 3.9)."""
    if HAS_GPU:
        return
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    multiply = interpreter.InterpreterBuilder.create_dot

    def widened(numbers: Any) -> Any:
        if numbers.dtype.scalar != tl.bfloat16:
            return numbers
        wide = (numbers.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, tl.float32)

    def create_dot(self: Any, left: Any, right: Any, *rest: Any) -> Any:
        return multiply(self, widened(left), widened(right), *rest)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)
