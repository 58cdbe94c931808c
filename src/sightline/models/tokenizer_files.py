"""The tokenizer files that model folders hold, each made one and the same `TiktokenTokenizer`.

    tokenizer.model  GLM-4: "base64 rank" lines, control tokens named in tokenizer_config.json
    qwen.tiktoken    Qwen and Qwen-VL: the same lines, control tokens in a fixed order behind them
    tokenizer.json   Qwen2 and later: pieces in printable bytes, merges in the order of their ids

No torch: the front loads tokenizers, too.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.core.errors import StartupError, shorten
from sightline.models.hub_files import checked_folder, read_file, read_json, what_it_looks_like
from sightline.models.tokenizers import QWEN_SPLIT_PATTERN, TiktokenTokenizer

GLM4_FILE = "tokenizer.model"
QWEN_FILE = "qwen.tiktoken"
QWEN2_FILE = "tokenizer.json"
TOKENIZER_FILES = (GLM4_FILE, QWEN_FILE, QWEN2_FILE)
CONFIG_FILE = "tokenizer_config.json"
MAX_TOKENIZER_BYTES = 64 * 1024 * 1024
MAX_TOKEN_ID = 4_194_304
NUM_BYTES = 256

GLM4_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
GROUNDING_TOKENS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
QWEN_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{i}|>" for i in range(205)),
    *GROUNDING_TOKENS,
    "<img>",
    "</img>",
    "<imgpad>",
)
# What Qwen2's models write into their answers and mean to be read.
QWEN2_SPOKEN = (
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
)

RANK_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2})[ \t]+([0-9]{1,7})\s*")


def tokenizer_file(folder: Path) -> Path:
    """Return the tokenizer's file in `folder`. Raises StartupError if there is none."""
    for name in TOKENIZER_FILES:
        if (folder / name).exists():
            return folder / name
    known = ", ".join(TOKENIZER_FILES)
    values = {"folder": shorten(str(folder), 160), "known": known}
    raise StartupError(
        "{folder} holds no tokenizer; known: {known}.".format(**values),
        code="tokenizer_absent",
        values=values,
    )


def load_tokenizer(path: Path) -> TiktokenTokenizer:
    """Load the tokenizer of a model folder; `path` is the folder or its tokenizer's file.

    Raises StartupError naming file and line, or file and key.
    """
    if path.name in TOKENIZER_FILES:
        path = path.parent
    name = tokenizer_file(checked_folder(path)).name
    return _LOADERS[name](path)


def _load_glm4(folder: Path) -> TiktokenTokenizer:
    ranks = _read_ranks(folder, GLM4_FILE)
    specials = _added_tokens_decoder(folder, len(ranks))
    if specials is None:
        specials = {name: len(ranks) + i for i, name in enumerate(GLM4_SPECIAL_TOKENS)}
    return TiktokenTokenizer(ranks, specials)


def _load_qwen(folder: Path) -> TiktokenTokenizer:
    ranks = _read_ranks(folder, QWEN_FILE)
    specials = {name: len(ranks) + i for i, name in enumerate(QWEN_SPECIAL_TOKENS)}
    return TiktokenTokenizer(
        ranks,
        specials,
        split_pattern=QWEN_SPLIT_PATTERN,
        composes=True,
        spoken=GROUNDING_TOKENS,
    )


def _load_qwen2(folder: Path) -> TiktokenTokenizer:
    values = read_json(folder, QWEN2_FILE)
    model = values.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE":
        raise StartupError(f"{QWEN2_FILE}: 'model' is not a BPE vocabulary.")
    ranks = _ranks_of_vocab(model)
    specials = _added_tokens(values.get("added_tokens"), len(ranks))
    return TiktokenTokenizer(
        ranks,
        specials,
        split_pattern=QWEN_SPLIT_PATTERN,
        composes=True,
        spoken=[name for name in QWEN2_SPOKEN if name in specials],
    )


_LOADERS = {GLM4_FILE: _load_glm4, QWEN_FILE: _load_qwen, QWEN2_FILE: _load_qwen2}


def _ranks_of_vocab(model: Mapping[str, Any]) -> dict[bytes, int]:
    """Return the pieces as bytes, in the order of their ids.

    Merging by the lowest id, as tiktoken does, and merging by the first rule of the list, as this
    format says, are the same only if the list is in the order of the ids it makes: checked here.
    """
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise StartupError(f"{QWEN2_FILE}: 'vocab' or 'merges' is missing.")
    letters = _byte_letters()
    try:
        by_id = sorted(
            (token_id, bytes(letters[c] for c in name)) for name, token_id in vocab.items()
        )
    except (KeyError, TypeError):
        raise StartupError(f"{QWEN2_FILE}: 'vocab' is not made of printable bytes.") from None
    ranks = {piece: rank for rank, (token_id, piece) in enumerate(by_id) if token_id == rank}
    if len(ranks) != len(vocab) or any(bytes([b]) not in ranks for b in range(NUM_BYTES)):
        raise StartupError(f"{QWEN2_FILE}: 'vocab' has gaps, or lacks a byte.")
    last = -1
    for number, rule in enumerate(merges):
        pair = rule.split(" ") if isinstance(rule, str) else rule
        made = vocab.get("".join(pair)) if isinstance(pair, list) and len(pair) == 2 else None
        if made is None or made <= last:
            raise StartupError(
                f"{QWEN2_FILE}, merge {number}: not in the order of the ids; not supported."
            )
        last = made
    if len(merges) != len(ranks) - NUM_BYTES:
        raise StartupError(f"{QWEN2_FILE}: 'merges' does not make every piece of 'vocab'.")
    return ranks


def _byte_letters() -> dict[str, int]:
    """Return the printable letter that stands for each byte, as GPT-2 chose them."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(NUM_BYTES) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(NUM_BYTES + i): byte for i, byte in enumerate(others)}


def _read_ranks(folder: Path, name: str) -> dict[bytes, int]:
    content = read_file(folder, name, max_bytes=MAX_TOKENIZER_BYTES)
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        piece, rank = _parse_line(name, line, number, content)
        if rank != len(ranks) or piece in ranks:
            raise _broken(name, number, f"expected rank {len(ranks)} and a piece not listed before")
        ranks[piece] = rank
    missing = next((byte for byte in range(NUM_BYTES) if bytes([byte]) not in ranks), None)
    if missing is not None:
        raise StartupError(f"{name} is {what_it_looks_like(content)}: no rank for byte {missing}.")
    return ranks


def _parse_line(name: str, line: bytes, number: int, content: bytes) -> tuple[bytes, int]:
    match = RANK_LINE.fullmatch(line)
    try:
        if match is not None:
            return base64.b64decode(match[1], validate=True), int(match[2])
    except binascii.Error:
        pass
    kind = what_it_looks_like(content)
    if kind != "broken":
        raise StartupError(f"{name} is {kind}, not tiktoken ranks.")
    raise _broken(name, number, "expected 'base64 rank'")


def _broken(name: str, number: int, expected: str) -> StartupError:
    return StartupError(
        f"{name}, line {number}: {expected}; not a complete file in tiktoken format."
    )


def _added_tokens_decoder(folder: Path, num_ranks: int) -> dict[str, int] | None:
    if not (folder / CONFIG_FILE).exists():
        return None
    table = read_json(folder, CONFIG_FILE).get("added_tokens_decoder")
    if table is None:
        return None
    where = f"{CONFIG_FILE}, added_tokens_decoder"
    if not isinstance(table, dict) or not table:
        raise StartupError(f"{where}: expected an object of id: token.")
    rows = [
        (key, token.get("content") if isinstance(token, dict) else None)
        for key, token in table.items()
    ]
    return _checked_specials(rows, num_ranks, where)


def _added_tokens(rows: object, num_ranks: int) -> dict[str, int]:
    where = f"{QWEN2_FILE}, added_tokens"
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise StartupError(f"{where}: expected a list of tokens.")
    return _checked_specials(
        [(str(row.get("id")), row.get("content")) for row in rows], num_ranks, where
    )


def _checked_specials(rows: list[tuple[str, object]], num_ranks: int, where: str) -> dict[str, int]:
    special_tokens: dict[str, int] = {}
    for key, name in rows:
        if not isinstance(name, str) or not name:
            raise StartupError(f"{where}: {shorten(key)!r} has no 'content'.")
        if not (key.isascii() and key.isdigit() and num_ranks <= int(key[:10]) <= MAX_TOKEN_ID):
            raise StartupError(
                f"{where}: id {shorten(key)!r} of {shorten(name)!r} is not a number from "
                f"{num_ranks} (the ranks end there) to {MAX_TOKEN_ID}."
            )
        if name in special_tokens:
            raise StartupError(f"{where}: {shorten(name)!r} has two ids.")
        special_tokens[name] = int(key)
    if len(set(special_tokens.values())) < len(special_tokens):
        raise StartupError(f"{where}: one id stands for two tokens.")
    return special_tokens
