"""What each phase of training does."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one phase does. Rates are factors of the optimizer's base rates."""

    steps: int
    pictures: int
    rate: float
    end_rate: float = 0.0
    decay_share: float = 1.0
    warmup: int = 30
    tower_rate: float = 1.0  # the tower's share of the rate
    rows_weight: float = 1.0  # of the losses on image rows
    after: str = ""  # the phase whose checkpoint this one begins with
    dialogs_per_picture: int = 2
    text_share: float = 0.12
    shares: tuple[float, float, float] = (0.66, 0.22, 0.12)  # shapes, numbers, others
    talk_share: float = 1.0  # of the pictures are talked about; all have targets for their rows
    wants_hard: bool = False  # scenes that are often got wrong are drawn more often
    weights: Mapping[str, float] = field(default_factory=dict)  # of losses on rows, 1 if not named

    def rate_at(self, step: int) -> float:
        """Warm up, hold, then fall to `end_rate` over the last `decay_share` of the steps."""
        left = min(1.0, (self.steps - step) / max(1.0, self.steps * self.decay_share))
        rate = self.end_rate + (self.rate - self.end_rate) * left
        return rate * min(1.0, (step + 1) / self.warmup)


RECIPES = {
    "tower": Recipe(steps=3000, pictures=128, rate=0.8),
    "language": Recipe(
        steps=2000, pictures=40, rate=0.4, end_rate=0.2, tower_rate=0.0, after="tower"
    ),
    "joint": Recipe(
        steps=1500, pictures=40, rate=0.25, tower_rate=0.5, rows_weight=0.5, after="language"
    ),
    "refine": Recipe(
        steps=1500,
        pictures=40,
        rate=0.2,
        warmup=60,
        after="joint",
        text_share=0.06,
        shares=(0.58, 0.27, 0.15),
        talk_share=0.9,
        wants_hard=True,
        # What a tower that sees well still confuses.
        weights={
            "shape": 2.0,
            "form": 2.5,
            "digits": 2.0,
            "strokes": 1.5,
            "order": 0.7,
            "offset": 1.2,
            "kind": 0.8,
            "presence": 0.5,
            "color": 0.5,
            "count": 0.5,
            "light": 0.3,
        },
    ),
}
