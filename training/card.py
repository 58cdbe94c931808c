# ruff: noqa: E501 - the card is Markdown
"""Writes the model card from measurements, so that it cannot say anything else.

    python -m training.evaluate --seed 20 --json 20.json && python -m training.card 20.json

Several reports, of different seeds, are counted together.
"""

import argparse
import json
from pathlib import Path
from string import Template
from typing import Any

from training.config import SEQ_LENGTH
from training.evaluate import BARS
from training.package import DEMO_FOLDER
from training.pictures import IMAGE_SIZE

ROWS = {
    "single": "one shape: colour and shape named (这是什么? / What is this?)",
    "scene colour": "2 to 4 shapes: what colour is the X",
    "scene shape": "2 to 4 shapes: what shape is the red one",
    "count": "how many, 1 to 4 shapes",
    "yes/no": "is there an X, half of them yes",
    "position": "where is X (nine places)",
    "number": "what number, 1 to 3 digits",
    "off-world": "picture outside its world refused, kinds seen in training",
    "off-world held out": "picture outside its world refused, kinds never seen",
    "not falsely refused": "picture of its world not refused",
    "scene list": "2 to 4 shapes: all listed, nothing wrong (no bar)",
    "describe": "two sentences with every shape and place right (no bar)",
    "trained wording": "all of the above, wordings like those of training (no bar)",
    "held-out wording": "all of the above, wordings held out from training (no bar)",
    "sampled": "one shape, drawn at temperature 0.8 and top_p 0.8 (no bar)",
}

CARD = Template(
    """\
# sightline-demo

A vision-language model of $parameters parameters with GLM-4V's architecture, trained from random weights
on synthetic pictures. It ships inside sightline so that a bare machine answers at once, without a
download. It is a demonstration, not an assistant: it contains nothing of GLM-4V's weights and is not
affiliated with their authors.

- **Its world:** pictures of 1 to 4 separate filled shapes (circle, square, triangle, star, diamond, cross)
  in 8 colours (red, green, blue, yellow, orange, purple, black, white) on a plain, slightly noisy or graded
  background; or one printed number of 1 to 3 digits. It says so when a picture is something else.
- **Its questions**, Chinese or English: what is this, describe, how many, what colour, what shape, is there,
  where, what number; follow-ups on the same picture; greetings and questions about itself.
- **Format:** a hub folder as GLM-4V's (config.json, model.safetensors in bf16, tokenizer.model), $size bytes;
  $side x $side pixels, $context positions. Licence: Apache-2.0.
- **How it was made:** the scripts and the recipe are in `training/` of the repository.

## Measured

Greedy decoding, $dtype, on pictures of a generator that shares no drawing code with training (plain Pillow,
canvases of 200 to 1000 pixels, PNG, JPEG and WebP, $seeds), half of the questions in wordings held out
from training. Only the pictures outside its world are drawn by training's own functions, in another random
stream; five of their kinds were never trained on. The held-out wordings stayed out of training, but earlier
measurements showed them failing, and more trained wordings of their kind were added. Nothing was chosen by these
seeds: they were drawn after the weights were finished. An answer counts only if it begins with the canonical
sentence, word for word. $date.

| what | right | of | share | bar |
|---|---|---|---|---|
$rows

$verdict

## Limits

Small shapes (radius under a tenth of the width), pictures squeezed to twice their width, thin or decorative
digits and questions far from the ones above go wrong more often. Answers beyond its world are not to be
trusted. It was never shown people, text or photographs except to learn to refuse them.

## 中文摘要

sightline 自带的小型演示模型：采用 GLM-4V 的结构，$parameters 个参数，完全用合成图片从零训练，不含 GLM-4V 的任何权重。
它认识 1 到 4 个简单的彩色图形（六种形状、八种颜色）和 1 到 3 位的数字，能用中文和英文回答“这是什么”、数量、颜色、形状、
位置、有没有等问题；遇到范围之外的图片会直接说明。上表是在独立的绘图程序上测得的准确率；没有达到目标的项目已如实标出。
"""
)


def together(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what several measurements of the same weights give together.

    Raises ValueError where they differ in more than their seeds.
    """
    first = reports[0]
    if len({(r["dtype"], r["num_parameters"], r["quantization"]) for r in reports}) > 1:
        raise ValueError("These reports are not of one model in one number format.")
    if len({r["seed"] for r in reports}) < len(reports):
        raise ValueError("Two of these reports have the same seed.")
    results = {}
    for name in first["results"]:
        rows = [r["results"][name] for r in reports]
        right, of = sum(row["right"] for row in rows), sum(row["of"] for row in rows)
        results[name] = {"right": right, "of": of, "share": right / of}
    return {
        **first,
        "date": max(r["date"] for r in reports),
        "seeds": sorted(r["seed"] for r in reports),
        "results": results,
    }


def card(report: dict[str, Any]) -> str:
    """Return the card of what `together` returned."""
    rows, missed = [], []
    for name, what in ROWS.items():
        if name not in report["results"]:
            continue
        row, bar = report["results"][name], BARS.get(name)
        aim = "" if bar is None else f"{bar:.0%}"
        if bar is not None and row["share"] < bar:
            missed.append(name)
            aim += ", missed"
        rows.append(
            f"| {what} | {row['right']:.0f} | {row['of']:.0f} | {row['share']:.1%} | {aim} |"
        )
    verdict = "All bars are met." if not missed else f"Bars missed: {', '.join(missed)}."
    return CARD.substitute(
        parameters=f"{report['num_parameters']:,}",
        size=f"{sum(file.stat().st_size for file in DEMO_FOLDER.iterdir()):,}",
        side=IMAGE_SIZE,
        context=SEQ_LENGTH,
        dtype=report["dtype"],
        seeds=("seeds " if len(report["seeds"]) > 1 else "seed ")
        + ", ".join(map(str, report["seeds"])),
        date=report["date"],
        rows="\n".join(rows),
        verdict=verdict,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path, nargs="+")
    options = parser.parse_args()
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in options.reports]
    text = card(together(reports))
    (DEMO_FOLDER.parent / "CARD.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
