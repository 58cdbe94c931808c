"""Dialogs as token ids, exactly as the server builds them, and batches of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tiktoken
import torch
from torch import Tensor

from sightline.models.positions import compressed_positions
from training.questions import Dialog, Turn
from training.targets import IGNORE, digits_of
from training.tokenizer import special_ids
from training.world import COLORS, SHAPES, Thing

# Lengths are rounded up to this: matrix kernels are compiled once per shape.
STEP = 8


@dataclass(frozen=True, slots=True)
class Example:
    """One dialog. `labels` hold the next token where an answer is being learned, else IGNORE.

    `image_start` is the slot of the image's begin row, -1 without a picture. `grounds` are slots
    of words that name one thing, with its shape, colour and image row; `digits` slots of questions
    about a number, with its three digits. `looks` say where attention should go: a slot, whether
    it is part of an answer, and the image's slots to look at, counted from its begin row.
    """

    token_ids: list[int]
    labels: list[int]
    image_start: int
    grounds: list[tuple[int, int, int, int]]
    digits: list[tuple[int, int, int, int]]
    looks: list[tuple[int, bool, tuple[int, ...]]]


class Writer:
    """Turns dialogs into ids: header and body encoded apart, the picture right after the header."""

    def __init__(self, encoding: tiktoken.Encoding, num_image_tokens: int) -> None:
        self._encoding = encoding
        self.grid = round((num_image_tokens - 2) ** 0.5)
        self.num_image_tokens = num_image_tokens
        self.special = special_ids(encoding.max_token_value + 1)
        self.encode = lru_cache(maxsize=200_000)(
            lambda text: tuple(encoding.encode(text, disallowed_special=()))
        )
        self._newline = self.encode("\n")
        self._image = (
            self.special["<|begin_of_image|>"],
            *[self.special["<|endoftext|>"]] * (num_image_tokens - 2),
            self.special["<|end_of_image|>"],
        )

    def prompt(self, dialog: Dialog, num_answered: int) -> tuple[list[int], int]:
        """Return the ids up to the assistant turn that is open after `num_answered` answers.

        Second comes the slot of the image's begin row, or -1.
        """
        example = self._write(dialog, num_answered)
        return [*example.token_ids, self.special["<|assistant|>"]], example.image_start

    def example(self, dialog: Dialog) -> Example:
        """Return the whole dialog for training, closed by the token that ends an answer."""
        return self._write(dialog, len(dialog.turns))

    def _write(self, dialog: Dialog, num_answered: int) -> Example:
        ids = [self.special["[gMASK]"], self.special["<sop>"]]
        learned: list[tuple[int, int]] = []
        grounds: list[tuple[int, int, int, int]] = []
        digits: list[tuple[int, int, int, int]] = []
        looks: list[tuple[int, bool, tuple[int, ...]]] = []
        image_start = -1
        if dialog.system:
            ids += [self.special["<|system|>"], *self._newline, *self.encode(dialog.system)]
        for i, turn in enumerate(dialog.turns[: num_answered + 1]):
            ids += [self.special["<|user|>"], *self._newline]
            if i == dialog.image_turn:
                image_start = len(ids)
                ids += self._image
            begin = len(ids)
            ids += self.encode(turn.question)
            if turn.focus is not None:
                slot = begin + self._last_token(turn)
                kinds = SHAPES.index(turn.focus.shape), COLORS.index(turn.focus.color)
                grounds.append((slot, *kinds, self._cell(turn.focus)))
            elif turn.number:
                first, second, third = digits_of(turn.number)
                digits.append((len(ids) - 1, first, second, third))
            if turn.mention and turn.things is not None:
                looks.append((begin + self._last_token(turn), False, self._rows(turn.things)))
            if i < num_answered:
                ids.append(self.special["<|assistant|>"])
                begin = len(ids) - 1
                ids += [*self._newline, *self.encode(turn.answer)]
                learned.append((begin, len(ids)))
                if turn.listed:
                    looks += self._listed_looks(turn, begin + 1 + len(self._newline))
                elif turn.things is not None:
                    rows = self._rows(turn.things)
                    looks += [(slot, True, rows) for slot in range(begin, len(ids))]
        if num_answered == len(dialog.turns):
            ids.append(self.special["<|user|>"])
        labels = [IGNORE] * len(ids)
        for begin, end in learned:
            labels[begin:end] = ids[begin + 1 : end + 1]
        return Example(ids, labels, image_start, grounds, digits, looks)

    def _cell(self, thing: Thing) -> int:
        return int(thing.y * self.grid) * self.grid + int(thing.x * self.grid)

    def _rows(self, things: Sequence[Thing]) -> tuple[int, ...]:
        """Return the image's slots where `things` have their middles; the begin row if none."""
        return tuple({1 + self._cell(thing) for thing in things}) or (0,)

    def _listed_looks(self, turn: Turn, begin: int) -> Iterator[tuple[int, bool, tuple[int, ...]]]:
        """Yield a look for every slot that says a token of a listed phrase, or is about to."""
        ends, length = [], 0
        for token in self.encode(turn.answer):
            length += len(self._encoding.decode_single_token_bytes(token))
            ends.append(length)
        at = 0
        for phrase, things in turn.listed:
            at = turn.answer.find(phrase, at)
            if at < 0:
                return
            first = len(turn.answer[:at].encode())
            at += len(phrase)
            last = len(turn.answer[:at].encode())
            rows = self._rows(things)
            for i, end in enumerate(ends):
                start = ends[i - 1] if i else 0
                if end > first and start < last:
                    yield begin + i - 1, True, rows

    def _last_token(self, turn: Turn) -> int:
        """Return the index of the question's token that ends its mention, or the last one."""
        ids = self.encode(turn.question)
        begin = turn.question.lower().find(turn.mention.lower()) if turn.mention else -1
        if begin < 0:
            return len(ids) - 1
        end = len(turn.question[: begin + len(turn.mention)].encode())
        length = 0
        for i, token in enumerate(ids):
            length += len(self._encoding.decode_single_token_bytes(token))
            if length >= end:
                return i
        return len(ids) - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples of about one length, padded on the right to [N, T].

    `image_rows` names, for the examples with a picture, their row in the batch, the slot the
    picture starts at, and the picture's index.
    """

    token_ids: Tensor
    positions: Tensor
    labels: Tensor
    image_rows: Tensor  # int64 [M, 3]
    grounds: Tensor  # int64 [K, 5]: row, slot, shape, colour, image row
    digits: Tensor  # int64 [J, 5]: row, slot, three digits
    looks: Tensor  # int64 [N', 4]: row, slot, whether in an answer, the picture's first slot
    looked_at: Tensor  # bool [N', num_image_tokens]: the image's slots to look at


def make_batches(
    examples: Sequence[Example], pictures: Sequence[int], num_image_tokens: int, num_buckets: int
) -> list[Batch]:
    """Sort examples by length into `num_buckets` batches; `pictures[i]` is example i's picture."""
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].token_ids))
    batches = []
    for part in np.array_split(np.array(order), num_buckets):
        if not len(part):
            continue
        longest = max(len(examples[i].token_ids) for i in part)
        longest = -(-longest // STEP) * STEP
        ids = np.zeros((len(part), longest), np.int64)
        labels = np.full((len(part), longest), IGNORE, np.int64)
        positions = torch.zeros((len(part), longest), dtype=torch.int64)
        rows, grounds, digits, looks = [], [], [], []
        looked_at: list[np.ndarray] = []
        for row, i in enumerate(part):
            example = examples[i]
            ids[row, : len(example.token_ids)] = example.token_ids
            labels[row, : len(example.labels)] = example.labels
            positions[row] = _positions(longest, example.image_start, num_image_tokens)
            grounds += [(row, *ground) for ground in example.grounds]
            digits += [(row, *number) for number in example.digits]
            for slot, is_answer, targets in example.looks:
                looks.append((row, slot, int(is_answer), example.image_start))
                wanted = np.zeros(num_image_tokens, np.bool_)
                wanted[list(targets)] = True
                looked_at.append(wanted)
            if example.image_start >= 0:
                rows.append((row, example.image_start, pictures[i]))
        batches.append(
            Batch(
                torch.from_numpy(ids),
                positions,
                torch.from_numpy(labels),
                torch.tensor(rows, dtype=torch.int64).reshape(-1, 3),
                torch.tensor(grounds, dtype=torch.int64).reshape(-1, 5),
                torch.tensor(digits, dtype=torch.int64).reshape(-1, 5),
                torch.tensor(looks, dtype=torch.int64).reshape(-1, 4),
                torch.from_numpy(np.array(looked_at, np.bool_).reshape(-1, num_image_tokens)),
            )
        )
    return batches


@lru_cache(maxsize=20_000)
def _positions(num_slots: int, image_start: int, num_image_tokens: int) -> Tensor:
    spans = [(image_start, num_image_tokens)] if image_start >= 0 else []
    return compressed_positions(num_slots, spans)
