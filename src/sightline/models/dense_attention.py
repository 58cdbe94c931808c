"""Attention among all rows of a picture, as vision towers have it.

Shapes: N pictures or windows of them, P rows of each, H heads of Dh numbers.
"""

import torch.nn.functional as F
from torch import Tensor

from sightline.models.cpu import picture_attention


def attend_to_all(query: Tensor, key: Tensor, value: Tensor, *, rounds_rows: bool) -> Tensor:
    """Return what every row of `[N, P, H, Dh]` makes of all rows of its picture.

    With `rounds_rows` numbers may be rounded to bfloat16 before they are multiplied.
    """
    if rounds_rows and picture_attention.takes(query):
        return picture_attention.attend_to_all(query, key, value)
    mixed = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    )
    return mixed.transpose(1, 2)
