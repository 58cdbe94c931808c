"""Which of a model's kernels can be launched as dependent ones.

Importing this module needs Triton.
"""

from collections.abc import Sequence

from sightline.models.gpu.dependent_launch import is_possible
from sightline.models.gpu.few_rows import FewRows
from sightline.models.gpu.triton_attention import TritonBackend
from sightline.models.paged_model import PagedModel

Dependent = FewRows | TritonBackend


def of(model: PagedModel) -> list[Dependent]:
    """Return those of `model`; none where its device cannot launch them so."""
    if not is_possible(model.device):
        return []
    users = [model.attention, *(step.layer.few for step in model.decode_products())]
    return [user for user in users if isinstance(user, Dependent) and user.can_depend]


def let_depend(kernels: Sequence[Dependent], is_dependent: bool) -> None:
    for kernel in kernels:
        kernel.is_dependent = is_dependent
