"""The pictures and dialogs of each step, drawn from the rendered shards."""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from training.pictures import SHARD, WORK, open_shards, to_scene
from training.prompts import Batch, Writer, make_batches
from training.questions import picture_dialog, text_dialog
from training.recipes import Recipe
from training.targets import Targets, make_targets

NEW_SHARDS_EVERY = 100


@dataclass(slots=True)
class Materials:
    """One step's inputs."""

    pixels: Tensor
    targets: Targets
    batches: list[Batch]


class Source:
    """Draws steps from the rendered shards; the draw of step `i` depends on the seed and `i`."""

    def __init__(self, recipe: Recipe, seed: int, grid: int, writer: Writer | None) -> None:
        self.recipe, self.seed, self.grid, self.writer = recipe, seed, grid, writer
        self._open()

    def _open(self) -> None:
        self._pixels, self._records = open_shards(WORK / "pictures")
        self._of_kind = [np.flatnonzero(self._records["kind"] == kind) for kind in range(3)]
        self._odds: list[np.ndarray | None] = [None] * 3
        if self.recipe.wants_hard:
            self._odds[0] = hard_odds(self._records[self._of_kind[0]])
            self._odds[1] = hard_number_odds(self._records[self._of_kind[1]])

    def draw(self, step: int) -> Materials:
        if step % NEW_SHARDS_EVERY == 0:
            self._open()
        how = np.random.default_rng((self.seed, step))
        kinds = how.choice(3, self.recipe.pictures, p=self.recipe.shares)
        chosen = np.sort([how.choice(self._of_kind[kind], p=self._odds[kind]) for kind in kinds])
        pixels = np.stack([self._pixels[i // SHARD][i % SHARD] for i in chosen])
        records = self._records[chosen]
        mirrored = (how.random(len(chosen)) < 0.5) & (records["kind"] != 1)
        pixels[mirrored] = pixels[mirrored][:, :, ::-1]
        records["box"][mirrored, :, 0] = 1 - records["box"][mirrored, :, 0]
        batches = []
        if self.writer:
            # They are sorted by kind: those that are talked about come from all of it.
            order = how.permutation(len(chosen)) if self.recipe.talk_share < 1 else slice(None)
            pixels, records = pixels[order], records[order]
            num_talked = round(len(chosen) * self.recipe.talk_share)
            batches = self._talk(records[:num_talked], Random(f"{self.seed}/{step}"))
        return Materials(torch.from_numpy(pixels), make_targets(records, self.grid), batches)

    def _talk(self, records: np.ndarray, rng: Random) -> list[Batch]:
        assert self.writer is not None
        examples, pictures = [], []
        for i, record in enumerate(records):
            scene = to_scene(record)
            for _ in range(self.recipe.dialogs_per_picture):
                num_turns = rng.choices((1, 2, 3, 5), (0.45, 0.3, 0.2, 0.05))[0]
                examples.append(self.writer.example(picture_dialog(rng, scene, num_turns)))
                pictures.append(i)
        for _ in range(round(len(examples) * self.recipe.text_share)):
            examples.append(self.writer.example(text_dialog(rng)))
            pictures.append(-1)
        return make_batches(examples, pictures, self.writer.num_image_tokens, 8)


def hard_odds(scenes: np.ndarray) -> np.ndarray:
    """Return how often to draw each of N scenes of shapes: float [N], sums to 1.

    The smallest things and the fullest scenes are got wrong most; and a model that sees mostly
    those forgets the single large ones.
    """
    count = scenes["count"]
    half = scenes["box"][:, :, 2:].max(-1)
    smallest = np.where(np.arange(half.shape[1]) < count[:, None], half, 1).min(1)
    odds = np.array([0, 1.7, 1.0, 1.1, 1.2])[count]
    odds = odds * np.where(smallest < 0.11, 1.3, 1.0) * np.where(half[:, 0] > 0.19, 2.0, 1.0)
    return odds / odds.sum()


def hard_number_odds(pictures: np.ndarray) -> np.ndarray:
    """Return how often to draw each of N pictures of numbers: long ones, and light ink on dark."""
    number = pictures["number"].astype(int)
    odds = np.where(number > 99, 2.2, np.where(number > 9, 1.4, 1.0))
    odds = odds * np.where(pictures["is_light"], 1.0, 1.8)
    return odds / odds.sum()
