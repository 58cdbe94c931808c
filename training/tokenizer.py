"""Trains the byte-level BPE of the bundled model and writes it in GLM-4's file formats.

    python -m training.tokenizer FOLDER

Merges never join digits, so numbers are spelt digit by digit, and never more than two Chinese
characters, so a question nobody thought of still falls into familiar pieces.
"""

import argparse
import base64
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import regex
import tiktoken

from training.answers import REFUSAL
from training.drawing import draw_number_scene, draw_shapes_scene
from training.questions import SYSTEM_PROMPTS, Dialog, picture_dialog, text_dialog
from training.world import Scene

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NUM_RANKS = 1266
SPECIAL_TOKENS = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
    "<|assistant|>", "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>",
    "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
VOCAB_SIZE = NUM_RANKS + len(SPECIAL_TOKENS)
MAX_LATIN_BYTES, MAX_CHINESE_BYTES = 12, 6
# Characters and words outside the questions, so that ordinary text is not all single bytes.
_EXTRA = (
    "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对"
    "着事其里所去行过家十用发天如然作方成者多日都三小军二无同么经法当起与好看学进种将还分此心前面"
    "又定见只主没公从知全两些点开样手实现头前想但因很给名话谁吗呢吧啊请问帮告诉图片颜色形状位置数"
    "字描述识别左右上下圆方角星菱十红绿蓝黄橙紫黑白灰粉棕青",
    "the be to of and a in that have it for not on with he as you do at this but his by from "
    "they we say her she or an will my one all would there their what so up out if about who "
    "get which go me when make can like time no just him know take people into year your "
    "good some could them see other than then now look only come its over think also back "
    "after use two how our work first well way even new want because any these give day most "
    "us number picture image photo color colour shape where count describe",
)


def corpus(seed: int, size: int) -> Counter[str]:
    """Return how often each piece of the split pattern occurs in dialogs of training."""
    rng = Random(f"corpus/{seed}")
    pieces: Counter[str] = Counter()
    for i in range(size):
        dialog = text_dialog(rng) if i % 12 == 0 else picture_dialog(rng, _scene(rng), 2)
        for text in _texts(dialog):
            pieces.update(regex.findall(PATTERN, text))
    for text in (*_EXTRA, *SYSTEM_PROMPTS, *REFUSAL.values()):
        pieces.update(regex.findall(PATTERN, text))
    return pieces


def _scene(rng: Random) -> Scene:
    pick = rng.random()
    if pick < 0.1:
        return Scene("other")
    return (draw_number_scene if pick < 0.25 else draw_shapes_scene)(rng)[1]


def _texts(dialog: Dialog) -> list[str]:
    return [text for turn in dialog.turns for text in (turn.question, turn.answer)]


def _may_merge(joined: bytes) -> bool:
    try:
        text = joined.decode()
    except UnicodeDecodeError:
        return len(joined) <= 3  # a part of one character
    if any(c.isdigit() for c in text):
        return False
    if text.isascii():
        return len(joined) <= MAX_LATIN_BYTES
    return len(joined) <= MAX_CHINESE_BYTES and not any(c.isspace() for c in text)


def train_ranks(pieces: Counter[str], num_ranks: int) -> list[bytes]:
    """Return the token bytes in rank order: all 256 bytes, then merges, most frequent first."""
    ranks = [bytes([i]) for i in range(256)]
    known = set(ranks)
    words = [
        ([bytes([b]) for b in piece.encode()], count) for piece, count in sorted(pieces.items())
    ]
    while len(ranks) < num_ranks:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for parts, count in words:
            for pair in pairwise(parts):
                pairs[pair] += count
        allowed = [p for p in pairs if _may_merge(p[0] + p[1]) and p[0] + p[1] not in known]
        if not allowed:
            raise ValueError(f"the corpus gives only {len(ranks)} of {num_ranks} ranks")
        best = max(allowed, key=lambda pair: (pairs[pair], pair))
        joined = best[0] + best[1]
        ranks.append(joined)
        known.add(joined)
        for parts, _ in words:
            i = 0
            while i < len(parts) - 1:
                if (parts[i], parts[i + 1]) == best:
                    parts[i : i + 2] = [joined]
                i += 1
    return ranks


def special_ids(num_ranks: int = NUM_RANKS) -> dict[str, int]:
    """Return GLM-4's special tokens, in GLM-4's order, right after the ranks."""
    return {token: num_ranks + i for i, token in enumerate(SPECIAL_TOKENS)}


def write(folder: Path, ranks: list[bytes]) -> None:
    """Write `tokenizer.model` and `tokenizer_config.json`."""
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks)]
    (folder / "tokenizer.model").write_text("".join(lines), encoding="ascii")
    added: dict[str, Any] = {
        str(number): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True,
        }
        for token, number in special_ids(len(ranks)).items()
    }  # fmt: skip
    config = {
        "added_tokens_decoder": added,
        "additional_special_tokens": [*SPECIAL_TOKENS],
        "clean_up_tokenization_spaces": False,
        "do_lower_case": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": 2048,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "remove_space": False,
        "tokenizer_class": "ChatGLM4Tokenizer",
    }
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")


def load(folder: Path) -> tiktoken.Encoding:
    """Return the encoding of a folder that `write` made; for training, where speed matters."""
    ranks = {}
    for line in (folder / "tokenizer.model").read_text(encoding="ascii").splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    return tiktoken.Encoding(
        "sightline-demo", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=6000, help="dialogs in the corpus")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    pieces = corpus(options.seed, options.size)
    ranks = train_ranks(pieces, NUM_RANKS)
    write(options.folder, ranks)
    num_tokens = sum(len(load(options.folder).encode(p)) * n for p, n in pieces.items())
    num_bytes = sum(len(p.encode()) * n for p, n in pieces.items())
    print(
        f"{len(ranks)} ranks from {len(pieces)} pieces; {num_bytes / num_tokens:.2f} bytes a token"
    )


if __name__ == "__main__":
    main()
