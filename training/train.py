"""Trains the bundled model: the tower by itself, then the language, then both together.

    python -m training.train --phase tower
    python -m training.train --phase language
    python -m training.train --phase joint
    python -m training.train --phase refine

Each phase begins with what the one before it saved. Runs on a GPU when there is one. A run that
was stopped goes on from its last checkpoint. All phases train through the very modules that serve
(`sightline.models.glm_4v_9b`).
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sightline.models.glm_4v_9b import Glm4v, Glm4vConfig
from training.config import PATCH_SIZE, hub_config
from training.heads import GroundingHeads, Heads
from training.looks import Looks
from training.optimizer import Optimizer
from training.pictures import WORK, open_shards
from training.prompts import Batch, Writer
from training.recipes import RECIPES, Recipe
from training.source import Materials, Source
from training.start import initialise, resample_patches, whiten
from training.targets import IGNORE, Targets
from training.tokenizer import load as load_encoding

SAVE_EVERY_S = 150.0
HEADS_ALONE = 80  # steps that new heads learn from a tower that was trained before
LABEL_STEP = 256  # answers' tokens are padded to this: kernels are compiled once per shape


class Spoken(NamedTuple):
    """Summed losses of one batch of dialogs."""

    language: Tensor
    thing: Tensor
    number: Tensor
    look: Tensor
    num_labels: int


class Trainer:
    def __init__(
        self, folder: Path, phase: str, recipe: Recipe, seed: int, start: Path | None = None
    ) -> None:
        torch.manual_seed(seed)
        self.folder, self.phase, self.recipe, self.start = folder, phase, recipe, start
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        config = Glm4vConfig.from_hub(hub_config())
        assert config.vision is not None
        self.scaling_factor = config.vision.scaling_factor
        self.model = Glm4v(config)
        initialise(self.model)
        grid = config.vision.grid_size // 2
        self.readers = nn.ModuleDict()
        if phase != "language":
            self.readers["rows"] = Heads(config.hidden_size, grid * grid)
        if phase != "tower":
            self.readers["words"] = GroundingHeads(config.hidden_size, grid * grid)
        self.looks = Looks(self.model)
        self._middle: list[Tensor] = []
        self.model.transformer.encoder.layers[config.num_layers // 2 - 1].register_forward_hook(
            lambda _module, _inputs, output: self._middle.append(output)
        )
        writer = None
        if phase != "tower":
            writer = Writer(load_encoding(WORK / "tokenizer"), config.vision.num_image_tokens)
        modules = nn.ModuleDict({"model": self.model, "heads": self.readers})
        modules.to(self.device)
        for name, parameter in self.model.named_parameters():
            is_tower = ".vision." in name
            parameter.requires_grad = recipe.tower_rate > 0 if is_tower else phase != "tower"
        self.optimizer = Optimizer(modules, tower_rate=recipe.tower_rate)
        self.is_half = self.device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        self.step = 0
        self.average: dict[str, Tensor] = {}
        self.carried: dict[str, dict[str, Tensor]] = {}  # heads that this phase does not train
        self._resume()
        self.source = Source(recipe, seed, grid, writer)
        self.image_slots = torch.arange(config.vision.num_image_tokens, device=self.device)

    def _resume(self) -> None:
        own, before = self.folder / f"{self.phase}.pt", self.folder / f"{self.recipe.after}.pt"
        if own.exists():
            state = torch.load(own, map_location=self.device, weights_only=True)
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
            self.model.load_state_dict(state["model"])
            self.average = state["average"]
            self.carried = state["heads"]
        elif self.start is not None:
            weights = load_file(self.start / "model.safetensors")
            self.model.load_state_dict(resample_patches(weights, PATCH_SIZE))
        elif before.exists():
            state = torch.load(before, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["average"])
            self.carried = state["heads"]
            if self.recipe.after == "tower":
                pixels, _ = open_shards(WORK / "pictures")
                turn = whiten(self.model, torch.tensor(pixels[0][:1024]).to(self.device))
                self.carried["rows"]["unturn"] = turn.inverse()
        for name, reader in self.readers.items():
            if name in self.carried:
                reader.load_state_dict(self.carried[name])
        if not self.average:
            self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def save(self) -> None:
        target = self.folder / f"{self.phase}.pt"
        unfinished = target.with_suffix(".unfinished")
        state = {
            "model": self.model.state_dict(),
            "heads": self.carried | {n: r.state_dict() for n, r in self.readers.items()},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        torch.save(state, unfinished)
        unfinished.rename(target)

    def losses(self, materials: Materials) -> dict[str, Tensor]:
        """Return the losses of this phase; their sum is what falls."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_half):
            with torch.set_grad_enabled(self.recipe.tower_rate > 0):
                features = self.model.encode_images(materials.pixels.to(self.device))
            spoken = [self._language(batch, features) for batch in materials.batches]
        losses: dict[str, Tensor] = {}
        if spoken:
            named = max(1, sum(len(batch.grounds) for batch in materials.batches))
            numbers = max(1, sum(len(batch.digits) for batch in materials.batches))
            num_labels = sum(part.num_labels for part in spoken)
            # Answers are mostly fixed words: their mean hides the few that need the picture.
            losses["language"] = 4 * torch.stack([p.language for p in spoken]).sum() / num_labels
            losses["thing"] = 0.2 * torch.stack([p.thing for p in spoken]).sum() / named
            losses["number"] = 0.2 * torch.stack([p.number for p in spoken]).sum() / numbers
            looks = max(1, sum(len(batch.looks) for batch in materials.batches))
            losses["look"] = 0.5 * torch.stack([p.look for p in spoken]).sum() / looks
        if "rows" in self.readers:
            targets = Targets(
                **{n: getattr(materials.targets, n).to(self.device) for n in Targets.__slots__}
            )
            rows = features[:, 1:-1] * self.scaling_factor
            if self.start is not None and self.step < HEADS_ALONE:
                rows = rows.detach()  # heads that know nothing yet must not teach
            for name, loss in self.readers["rows"].losses(rows, targets).items():
                losses[name] = self.recipe.rows_weight * self.recipe.weights.get(name, 1.0) * loss
        return losses

    def _language(self, batch: Batch, features: Tensor) -> Spoken:
        embeds = self.model.embed(batch.token_ids.to(self.device))
        if len(batch.image_rows):
            row, start, picture = batch.image_rows.to(self.device).unbind(1)
            slots = start[:, None] + self.image_slots
            embeds = embeds.index_put((row[:, None], slots), features[picture].float())
        self._middle.clear()
        hidden = self.model(embeds, batch.positions.to(self.device))
        labels = batch.labels.to(self.device).flatten()
        learned = (labels != IGNORE).nonzero().squeeze(1)
        spare = -len(learned) % LABEL_STEP
        chosen = F.pad(learned, (0, spare))
        wanted = F.pad(labels[learned], (0, spare), value=IGNORE)
        scores = self.model.logits(hidden.flatten(0, 1)[chosen]).float()
        loss = F.cross_entropy(scores, wanted, ignore_index=IGNORE, reduction="sum")
        thing, number = self.readers["words"].losses(
            self._middle[0], batch.grounds.to(self.device), batch.digits.to(self.device)
        )
        look = self.looks.loss(batch.looks.to(self.device), batch.looked_at.to(self.device))
        return Spoken(loss, thing, number, look, len(learned))

    def run(self) -> None:
        """Train to the last step, saving on the way."""
        begin = saved = time.monotonic()
        first, sums = self.step, dict[str, float]()
        attention = sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()
        with attention, ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.source.draw, self.step)
            while self.step < self.recipe.steps:
                materials = coming.result()
                coming = ahead.submit(self.source.draw, self.step + 1)
                parts = self.losses(materials)
                torch.stack(list(parts.values())).sum().backward()
                self.optimizer.step(self.recipe.rate_at(self.step))
                self.step += 1
                self._follow()
                for name, loss in parts.items():
                    sums[name] = sums.get(name, 0.0) + float(loss.detach())
                if self.step % 20 == 0:
                    speed = (self.step - first) * self.recipe.pictures / (time.monotonic() - begin)
                    means = " ".join(f"{n} {s / 20:.3f}" for n, s in sums.items())
                    print(f"{self.step} {speed:.0f} pictures/s {means}", flush=True)
                    sums.clear()
                if time.monotonic() - saved > SAVE_EVERY_S:
                    self.save()
                    saved = time.monotonic()
        self.save()

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the averaged weights follow: about the last 150 steps, fewer at the start."""
        share = max(1 / 150, 1 / (self.step + 1))
        current: dict[str, Any] = self.model.state_dict()
        names = list(self.average)
        torch._foreach_lerp_([self.average[n] for n in names], [current[n] for n in names], share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", choices=list(RECIPES), required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=WORK / "run")
    parser.add_argument("--start", type=Path, help="a packaged model to go on from, with new heads")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[options.phase]
    if options.steps:
        recipe = replace(recipe, steps=options.steps)
    (options.folder / "config.json").write_text(json.dumps(hub_config(), indent=2) + "\n")
    Trainer(options.folder, options.phase, recipe, options.seed, options.start).run()


if __name__ == "__main__":
    main()
