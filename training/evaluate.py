"""Measures the packaged model on a held-out generator, along the path that serves.

    python -m training.evaluate --folder src/sightline/demo/model --scale 1 --json report.json

Encoded bytes are decoded and resized as the server does, prompts are built from ids, answers come
token by token out of the KV cache. An answer counts only if it begins with the canonical sentence,
word for word.
"""

import argparse
import io
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from PIL import Image

from sightline.models.glm_4v_9b import Glm4v
from sightline.models.loading import load_model
from sightline.models.packing import pack_linears
from sightline.models.quantization import Quantization, wanted_quantization
from training.answers import REFUSAL, Query, answer
from training.drawing import fit, font_files
from training.exam import encode, number_picture, shapes_picture
from training.offworld import FAMILIES, HELD_OUT, TRAINED
from training.package import DEMO_FOLDER
from training.phrases import Language
from training.prompts import Writer
from training.questions import Dialog, Turn, only_ones, word
from training.tokenizer import load as load_encoding
from training.world import COLORS, SHAPES, Scene

BARS = {
    "single": 0.98, "scene colour": 0.97, "scene shape": 0.97, "count": 0.95, "yes/no": 0.97,
    "position": 0.95, "number": 0.95, "off-world": 0.90, "off-world held out": 0.90,
    "not falsely refused": 0.99,
}  # fmt: skip
MAX_TOKENS = 160


class Speaker:
    """Greedy (or seeded) answers of a packaged model, one sequence at a time."""

    def __init__(
        self,
        folder: Path,
        dtype: str = "bfloat16",
        quantization: Quantization | None = None,
    ) -> None:
        loaded = load_model(folder, dtype=dtype, quantization=quantization)
        self.model: Glm4v = loaded.model  # type: ignore[assignment]
        self.num_parameters = loaded.num_parameters
        if loaded.quantization:
            pack_linears(loaded.model)  # without its kernels it would be slow
        assert self.model.config.vision is not None
        self.size = self.model.config.vision.image_size
        self.encoding = load_encoding(folder)
        self.writer = Writer(self.encoding, self.model.config.vision.num_image_tokens)
        self.ends = set(self.model.config.eos_token_ids)

    @torch.inference_mode()
    def see(self, picture: bytes) -> torch.Tensor:
        """Return the rows of one encoded picture."""
        pixels = fit(Image.open(io.BytesIO(picture)).convert("RGB"), self.size)
        return self.model.encode_images(torch.tensor(pixels)[None])[0]

    @torch.inference_mode()
    def begins_with(self, dialog: Dialog, rows: torch.Tensor | None, words: str) -> bool:
        """Return whether the greedy answer begins with `words`, in their usual tokens.

        One pass tells, instead of one for each token.
        """
        ids, embeds, spans = self._asked(dialog, rows)
        expected = [*self.writer.encode("\n"), *self.writer.encode(words)]
        embeds = torch.cat((embeds, self.model.embed(torch.tensor(expected[:-1]))))
        total = len(ids) + len(expected) - 1
        positions = self.model.positions(total, spans, num_prompt=len(ids))
        hidden = self.model(embeds, positions)[len(ids) - 1 :]
        return bool((self.model.logits(hidden).argmax(-1) == torch.tensor(expected)).all())

    @torch.inference_mode()
    def say(
        self, dialog: Dialog, rows: torch.Tensor | None, temperature: float = 0.0, seed: int = 0
    ) -> str:
        """Return the answer to the last turn's question."""
        ids, embeds, spans = self._asked(dialog, rows)
        cache = self.model.allocate_cache(len(ids) + MAX_TOKENS)
        hidden = self.model(embeds, self.model.positions(len(ids), spans), cache)[-1]
        dice = torch.Generator().manual_seed(seed)
        position, spoken = self.model.next_position(len(ids), spans), list[int]()
        for i in range(MAX_TOKENS):
            scores = self.model.logits(hidden).float()
            token = int(scores.argmax()) if temperature == 0 else _sample(scores, temperature, dice)
            if token in self.ends:
                break
            spoken.append(token)
            hidden = self.model(
                self.model.embed(torch.tensor([token])), torch.tensor([position + i]), cache
            )[-1]
        known = [t for t in spoken if t < self.encoding.n_vocab]
        return self.encoding.decode(known).removeprefix("\n")

    def _asked(
        self, dialog: Dialog, rows: torch.Tensor | None
    ) -> tuple[list[int], torch.Tensor, list[tuple[int, int]]]:
        """Return the prompt's ids, its rows, and where the picture stands in it."""
        ids, start = self.writer.prompt(dialog, len(dialog.turns) - 1)
        embeds = self.model.embed(torch.tensor(ids))
        if start < 0:
            return ids, embeds, []
        if rows is not None:
            embeds[start : start + len(rows)] = rows
        return ids, embeds, [(start, self.writer.num_image_tokens)]


def _sample(
    scores: torch.Tensor, temperature: float, dice: torch.Generator, top_p: float = 0.8
) -> int:
    shares, order = (scores / temperature).softmax(-1).sort(descending=True)
    kept = shares * (shares.cumsum(-1) - shares < top_p)
    return int(order[torch.multinomial(kept, 1, generator=dice)])


@dataclass(frozen=True, slots=True)
class Case:
    bar: str
    picture: bytes
    scene: Scene
    query: Query
    language: Language


def _yes_no(rng: Random, scene: Scene) -> Query:
    pairs = {(t.shape, t.color) for t in scene.things}
    form = rng.choice(("pair", "pair", "shape", "color"))
    wants_yes = rng.random() < 0.5
    for _ in range(200):
        shape, color = rng.choice(SHAPES), rng.choice(COLORS)
        if form == "shape":
            color = ""
        if form == "color":
            shape = ""
        is_yes = any(shape in ("", s) and color in ("", c) for s, c in pairs)
        if is_yes == wants_yes:
            return Query("is_there", shape=shape, color=color)
    return Query("is_there", shape=SHAPES[0])


def cases(seed: int, scale: float) -> Iterator[Case]:
    """Yield the examination; Chinese and English in turn."""
    rng = Random(f"exam/{seed}")
    fonts = tuple(
        f
        for f in font_files()
        if re.search(
            r"(DejaVuSans|LiberationSans|DejaVuSerif|LiberationMono)(-Bold|-Regular)?\.ttf", f
        )
    )

    def language() -> Language:
        return "zh" if rng.random() < 0.5 else "en"

    for _ in range(round(300 * scale)):
        picture, scene = shapes_picture(rng, 1)
        yield Case("single", picture, scene, Query("what"), language())
    for _ in range(round(220 * scale)):
        picture, scene = shapes_picture(rng, rng.randint(2, 4))
        yield Case("count", picture, scene, Query("count"), language())
        if names := [thing.shape for thing in only_ones(scene, "shape")]:
            yield Case(
                "scene colour",
                picture,
                scene,
                Query("color_of", shape=rng.choice(names)),
                language(),
            )
            query = Query("where", shape=names[0])
            if answer(scene, query, "en"):
                yield Case("position", picture, scene, query, language())
        if names := [thing.color for thing in only_ones(scene, "color")]:
            yield Case(
                "scene shape",
                picture,
                scene,
                Query("shape_of", color=rng.choice(names)),
                language(),
            )
        yield Case("yes/no", picture, scene, _yes_no(rng, scene), language())
        yield Case("scene list", picture, scene, Query("what"), language())
        yield Case("describe", picture, scene, Query("describe"), language())
    for _ in range(round(80 * scale)):
        picture, scene = shapes_picture(rng, 1)
        yield Case("count", picture, scene, Query("count"), language())
        yield Case("yes/no", picture, scene, _yes_no(rng, scene), language())
        query = Query("where", shape=scene.things[0].shape)
        if answer(scene, query, "en"):
            yield Case("position", picture, scene, query, language())
    for _ in range(round(250 * scale)):
        picture, scene = number_picture(rng, fonts)
        yield Case("number", picture, scene, Query("number"), language())
    for name, families in (("off-world", TRAINED), ("off-world held out", HELD_OUT)):
        for i in range(round(150 * scale)):
            picture = encode(rng, FAMILIES[families[i % len(families)]](rng).resize((400, 400)))
            query = rng.choice((Query("what"), Query("count"), Query("describe"), Query("number")))
            yield Case(
                name, picture, Scene("other", family=families[i % len(families)]), query, language()
            )


@dataclass(frozen=True, slots=True)
class Asked:
    """A case in words: the question, and how the right answer begins."""

    case: Case
    is_held_out: bool
    dialog: Dialog
    right: str

    def judged(self, said: str) -> dict[str, bool]:
        """Return whether `said` is right, by the rows that it counts in."""
        is_right = said.startswith(self.right)
        wording = "held-out wording" if self.is_held_out else "trained wording"
        rows = {self.case.bar: is_right, wording: is_right}
        if self.case.scene.kind != "other":
            rows["not falsely refused"] = said != REFUSAL[self.case.language]
        return rows


def questions(seed: int, scale: float) -> Iterator[Asked]:
    rng = Random(f"wording/{seed}")
    for case in cases(seed, scale):
        is_held_out = rng.random() < 0.5
        turn = Turn(word(rng, case.query, case.language, is_held_out), "", "")
        right = answer(case.scene, case.query, case.language) or ""
        yield Asked(case, is_held_out, Dialog((turn,)), right)


def examine(
    speaker: Speaker, seed: int, scale: float, num_shown: int
) -> dict[str, dict[str, float]]:
    """Return right and total counts by bar; print some of the wrong answers."""
    tally: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    rows, last = None, b""
    shown: dict[str, int] = defaultdict(int)
    for asked in questions(seed, scale):
        case = asked.case
        if case.picture is not last:
            rows, last = speaker.see(case.picture), case.picture
        said = speaker.say(asked.dialog, rows)
        judged = asked.judged(said)
        if case.bar == "single":
            drawn = speaker.say(asked.dialog, rows, temperature=0.8, seed=seed)
            judged["sampled"] = drawn.startswith(asked.right)
        for name, is_right in judged.items():
            tally[name][0] += is_right
            tally[name][1] += 1
        if not judged[case.bar] and shown[case.bar] < num_shown:
            shown[case.bar] += 1
            question = asked.dialog.turns[0].question
            print(f"  {case.bar} {case.scene.family}: {question} -> {said} (right: {asked.right})")
    return {name: {"right": r, "of": n, "share": r / n} for name, (r, n) in sorted(tally.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=DEMO_FOLDER)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--quantization", choices=("none", "int8", "int4"))
    parser.add_argument("--quantization-vision", choices=("none", "int8", "int4"))
    parser.add_argument("--show", type=int, default=3, help="wrong answers to print per bar")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    begin = time.monotonic()
    chosen = wanted_quantization(options.quantization, options.quantization_vision)
    speaker = Speaker(options.folder, options.dtype, chosen)
    results = examine(speaker, options.seed, options.scale, options.show)
    for name, row in results.items():
        bar = BARS.get(name)
        met = (
            "" if bar is None else f"bar {bar:.0%} " + ("met" if row["share"] >= bar else "MISSED")
        )
        print(f"{name:22} {row['right']:5.0f} / {row['of']:<5.0f} {row['share']:7.2%}  {met}")
    print(f"{time.monotonic() - begin:.0f} s")
    if options.json:
        report = {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "seed": options.seed,
            "dtype": options.dtype,
            "quantization": str(chosen or "none"),
            "num_parameters": speaker.num_parameters,
            "results": results,
        }
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
