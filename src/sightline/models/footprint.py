"""What a model takes in memory: weights by part, keys and values, and what a step needs besides.

Weights, keys and values are exact. What steps need is an estimate, made of the widest things that
live at the same time.
"""

from dataclasses import dataclass, field

from sightline.core.image_policy import ImagePolicy, PatchGridImagePolicy
from sightline.models.facts import ITEM_BYTES, Dtype, ModelFacts
from sightline.models.outline import PARTS, Part, Weight, weights
from sightline.models.quantization import Quantization, is_matrix, weight_bytes

# Rows of the residual stream, of queries and of what attention mixed that live together, and the
# MLP's inner rows beside them.
_LIVE_ROWS, _LIVE_INNER = 6, 3
# In a tower attention, whose queries, keys and values stand in two layouts, or the MLP beside its
# residual, or what asks a number of questions of all patches. Measured on a CPU with fp32 rows, MB:
# GLM-4V 830, Qwen-VL 196, Qwen2-VL and Qwen2.5-VL 960 and 1179 (1792 pixels), where this gives
# 924, 201, 1342 and 1342.
_LIVE_TOWER_ROWS, _LIVE_MLP_ROWS, _LIVE_MLP_INNER, _LIVE_ASKED_ROWS = 16, 3, 2, 12
# Scores, their sorted copy, probabilities and masks, in fp32.
_LOGIT_COPIES, _LOGIT_BYTES = 4, 4
# Pictures of one size are encoded together on a GPU up to so many pixels; more would only take
# memory, as one large picture keeps all of a device busy.
PIXELS_AT_ONCE = 1120 * 1120


@dataclass(frozen=True, slots=True)
class PartSize:
    part: Part
    num_parameters: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """A model in one number format, whole or quantised.

    With `keeps_halves` the language model's matrices take two bytes beside fp32 rows, if the
    checkpoint has no more: see `packed_weight`; bfloat16 rows count as widened. With `keeps_table`
    the table of tokens stays as stored beside fp32 rows.
    """

    facts: ModelFacts
    dtype: Dtype
    quantization: Quantization = field(default_factory=Quantization)
    keeps_halves: bool = False
    keeps_table: bool = False

    @property
    def parts(self) -> tuple[PartSize, ...]:
        """Vision tower, connector, language model, embeddings, head; those that it has."""
        numbers: dict[Part, int] = dict.fromkeys(PARTS, 0)
        sizes: dict[Part, int] = dict.fromkeys(PARTS, 0)
        for weight in weights(self.facts.outline):
            item = self._item(weight)
            one = weight_bytes(weight.name, weight.shape, self.quantization, itemsize=item)
            numbers[weight.part] += weight.count * weight.size
            sizes[weight.part] += weight.count * one
        return tuple(PartSize(part, numbers[part], sizes[part]) for part in PARTS if numbers[part])

    @property
    def weight_bytes(self) -> int:
        return sum(part.num_bytes for part in self.parts)

    @property
    def largest_tensor_bytes(self) -> int:
        """The largest tensor as the checkpoint has it: it stands beside what is loaded."""
        item = ITEM_BYTES[self.facts.dtype]
        return max(weight.size for weight in weights(self.facts.outline)) * item

    @property
    def packing_bytes(self) -> int:
        """What packing takes beside the weights: the largest matrix in fp32."""
        sizes = [each.size for each in weights(self.facts.outline) if self._is_half(each)]
        return ITEM_BYTES["float32"] * max(sizes, default=0)

    @property
    def kv_token_bytes(self) -> int:
        """Keys and values of one token, all layers together."""
        num_layers, num_groups, head_dim = self.facts.blueprint.kv_shape
        return 2 * num_layers * num_groups * head_dim * ITEM_BYTES[self.dtype]

    @property
    def embedding_row_bytes(self) -> int:
        return self.facts.blueprint.hidden_size * self._row_item

    def step_bytes(self, num_tokens: int, num_sampled: int) -> int:
        """Estimate of what a step of `num_tokens` needs that samples `num_sampled` rows."""
        blueprint, item = self.facts.blueprint, self._row_item
        row = _LIVE_ROWS * blueprint.hidden_size + _LIVE_INNER * blueprint.mlp_width
        logits = num_sampled * blueprint.vocab_size * _LOGIT_COPIES * _LOGIT_BYTES
        return num_tokens * row * item + logits

    def encode_bytes(self, num_images: int, width: int, height: int) -> int:
        """Estimate of what encoding that many pictures needs at once, each resized to this."""
        patches = self.facts.blueprint.patches
        if patches is None:
            return 0
        attention = _LIVE_TOWER_ROWS * patches.width
        mlp = _LIVE_MLP_ROWS * patches.width + _LIVE_MLP_INNER * patches.mlp_width
        asked = _LIVE_ASKED_ROWS * self.facts.blueprint.hidden_size if patches.merge == 1 else 0
        row = max(attention, mlp, asked)
        count = (width // patches.side) * (height // patches.side)
        return num_images * count * row * self._row_item

    @property
    def _are_rows_widened(self) -> bool:
        return self.keeps_halves and self.dtype == "bfloat16"

    @property
    def _row_item(self) -> int:
        return ITEM_BYTES["float32" if self._are_rows_widened else self.dtype]

    def _item(self, weight: Weight) -> int:
        if self._is_half(weight) or self._is_table(weight):
            return ITEM_BYTES[self.facts.dtype]
        # What is added to wide rows, or multiplied with them in no linear layer, is as wide.
        is_convolution = weight.name.endswith(".weight") and len(weight.shape) > 2
        is_of_a_layer = is_convolution or is_matrix(weight.name, weight.shape)
        is_kept = is_of_a_layer or weight.part == "embeddings"
        is_widened = self._are_rows_widened and not is_kept
        return ITEM_BYTES["float32" if is_widened else self.dtype]

    def _is_half(self, weight: Weight) -> bool:
        is_packed = weight.part in ("language", "head") and is_matrix(weight.name, weight.shape)
        return self.keeps_halves and self.dtype == "float32" and is_packed

    def _is_table(self, weight: Weight) -> bool:
        return self.keeps_table and self.dtype == "float32" and weight.part == "embeddings"


def largest_size(policy: ImagePolicy) -> tuple[int, int]:
    """Return (width, height) of the most expensive picture."""
    if isinstance(policy, PatchGridImagePolicy):
        side = int(policy.max_pixels**0.5) // policy.factor * policy.factor
        return max(side, policy.factor), max(side, policy.factor)
    return policy.target_size(1, 1)


def pictures_at_once(width: int, height: int) -> int:
    """Return how many pictures of a size a GPU encodes together at most."""
    return max(1, PIXELS_AT_ONCE // (width * height))


def within_context(policy: ImagePolicy | None, num_tokens: int) -> ImagePolicy | None:
    """Return the policy of those pictures that a context of `num_tokens` has room for.

    Larger ones are refused before they are encoded.
    """
    if not isinstance(policy, PatchGridImagePolicy):
        return policy
    return policy.within(None, num_tokens * policy.factor**2)
