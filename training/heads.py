"""Small heads that read the image rows while the tower learns to see. They never ship.

The language loss alone says little per picture; these say what is where, cell by cell.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.targets import (
    IGNORE,
    MAX_DIGITS,
    NO_DIGIT,
    NUM_COLORS,
    NUM_PAIRS,
    NUM_SHAPES,
    Targets,
)

_SLOTS = MAX_DIGITS + 1  # one query for each digit, one for the whole picture


class Heads(nn.Module):
    """Linear readers of image rows [B, R, D] (without the begin and end rows)."""

    def __init__(self, width: int, num_rows: int) -> None:
        super().__init__()
        self.unturn: Tensor
        self.register_buffer("unturn", torch.eye(width))  # undoes `start.whiten`
        self.norm = nn.LayerNorm(width)
        self.place = nn.Parameter(torch.zeros(num_rows, width))
        self.cover = nn.Linear(width, 4 * (NUM_SHAPES + 1 + NUM_COLORS + 1))
        self.centre = nn.Linear(width, NUM_PAIRS)
        self.form = nn.Linear(width, NUM_SHAPES)
        self.offset = nn.Linear(width, 4)
        self.cell = nn.Linear(width, num_rows)
        self.query = nn.Parameter(torch.randn(_SLOTS, width) * 0.02)
        self.look = nn.MultiheadAttention(width, 4, batch_first=True)
        self.digit = nn.Linear(width, 11)
        self.strokes = nn.Linear(width, 4 * (NO_DIGIT + 1 + MAX_DIGITS + 1))
        self.whole = nn.Linear(2 * width, 3 + 5 + 2 + NUM_PAIRS)
        nn.init.constant_(self.centre.bias, -4.0)

    def losses(self, rows: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return the mean loss of every head, each about 1 to 5 at the start."""
        rows = self.norm(rows.float() @ self.unturn)
        cover = self.cover(rows).unflatten(-1, (4, -1))
        shape, color = cover.split([NUM_SHAPES + 1, NUM_COLORS + 1], dim=-1)
        covered = targets.kind != 1  # digits are strokes of a colour, not things
        query = self.query.expand(len(rows), -1, -1)
        seen, _ = self.look(query, rows + self.place, rows, need_weights=False)
        digits = self.digit(seen[:, :MAX_DIGITS])
        whole = self.whole(torch.cat([rows.mean(1), seen[:, -1]], -1))
        kind, count, light, presence = whole.split([3, 5, 2, NUM_PAIRS], dim=-1)
        has_thing = ~targets.offset[..., 0].isnan()
        apart = self.offset(rows)[has_thing] - targets.offset[has_thing]
        has_one = targets.centre.sum(-1) == 1
        forms = targets.centre[has_one].argmax(-1) // NUM_COLORS
        is_world = targets.kind != 2
        is_shapes = targets.kind == 0
        strokes, order = (
            self.strokes(rows).unflatten(-1, (4, -1)).split([NO_DIGIT + 1, MAX_DIGITS + 1], dim=-1)
        )
        # Most patches have no digit: the others count for three.
        rarity = torch.ones(NO_DIGIT + 1, device=rows.device)
        rarity[:NO_DIGIT] = 3
        has_digits = (targets.digits != IGNORE).any()
        zero = rows.sum() * 0
        cells = torch.arange(rows.shape[1], device=rows.device).repeat(len(rows))
        return {
            "cell": 0.3 * F.cross_entropy(self.cell(rows).flatten(0, 1), cells),
            "shape": F.cross_entropy(
                shape[covered].flatten(0, 2), targets.shape[covered].flatten()
            ),
            "color": F.cross_entropy(
                color[covered].flatten(0, 2), targets.color[covered].flatten()
            ),
            "centre": 12 * F.binary_cross_entropy_with_logits(self.centre(rows), targets.centre),
            "form": F.cross_entropy(self.form(rows[has_one]), forms) if len(forms) else zero,
            "offset": apart.abs().mean() if len(apart) else zero,
            "kind": F.cross_entropy(kind, targets.kind),
            "count": F.cross_entropy(count[is_shapes], targets.count[is_shapes]),
            "light": F.cross_entropy(light[is_world], targets.light[is_world]),
            "presence": 8 * F.binary_cross_entropy_with_logits(presence, targets.presence),
            "digits": F.cross_entropy(
                digits.flatten(0, 1), targets.digits.flatten(), ignore_index=IGNORE
            )
            if has_digits
            else zero,
            "strokes": F.cross_entropy(
                strokes.flatten(0, 2), targets.strokes.flatten(), rarity, ignore_index=IGNORE
            ),
            "order": F.cross_entropy(
                order.flatten(0, 2), targets.order.flatten(), ignore_index=IGNORE
            ),
        }


class GroundingHeads(nn.Module):
    """Readers of the language model's hidden rows, half way up: which thing is being asked about.

    A question names a thing with one word and is answered at another place. Asking the word
    itself which image row it means teaches the look at the picture long before answers do.
    """

    def __init__(self, width: int, num_rows: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.thing = nn.Linear(width, NUM_SHAPES + NUM_COLORS + num_rows)
        self.digits = nn.Linear(width, MAX_DIGITS * (NO_DIGIT + 1))
        self._sizes = [NUM_SHAPES, NUM_COLORS, num_rows]

    def losses(self, hidden: Tensor, grounds: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
        """Return summed losses for hidden [N, T, D] and `prompts.Batch`'s two tables."""
        zero = hidden.sum() * 0
        thing = number = zero
        if len(grounds):
            rows = self.norm(hidden[grounds[:, 0], grounds[:, 1]].float())
            parts = self.thing(rows).split(self._sizes, dim=-1)
            thing = torch.stack(
                [
                    F.cross_entropy(p, grounds[:, 2 + i], reduction="sum")
                    for i, p in enumerate(parts)
                ]
            ).sum()
        if len(digits):
            rows = self.norm(hidden[digits[:, 0], digits[:, 1]].float())
            scores = self.digits(rows).unflatten(-1, (MAX_DIGITS, -1)).flatten(0, 1)
            number = F.cross_entropy(scores, digits[:, 2:].flatten(), reduction="sum")
        return thing, number
