"""The vision towers of Qwen2-VL and Qwen2.5-VL: pictures of any size, patch by patch.

Rows and columns of patches turn the two halves of every head (2-D rotary embedding); 2 x 2
neighbouring patches become one row of the language model. The towers differ in norm and MLP, and
the later one attends inside windows in all but a few blocks. A picture is seen as a film of two
equal frames, because the patch embedding is a 3-D convolution.

Shapes: N images, H and W patches of a picture, P = H * W patches, C tower width, Dh head width,
D model width.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from sightline.models.cpu.between import can_turn, turn_halves
from sightline.models.dense_attention import attend_to_all
from sightline.models.linear import LayerNorm, Linear, Norm, RoundingNorm
from sightline.models.qwen2_vl_blueprint import NUM_FRAMES, Qwen2VisionConfig
from sightline.models.side_by_side import GateAndUp
from sightline.models.transfer import send

# What turns heads of rows in place by cosines and sines: see `cpu.between.turn_halves`.
Turn = Callable[[Tensor, Tensor, Tensor, int], None]

ROPE_BASE = 10_000.0
NORM_EPS = 1e-6


class Windows(NamedTuple):
    """Windows of one size: `number` times `size` patches, from `start` on."""

    start: int
    number: int
    size: int


class Sight:
    """What every block needs to know of a picture's shape; built once per size.

    `order` is that of the patches: those that are merged stand together, and so do those of a
    window. `back` brings merged rows into the picture's own order; None where they are in it.
    """

    def __init__(
        self, height: int, width: int, config: Qwen2VisionConfig, device: torch.device
    ) -> None:
        # The host lays patches out and sends what it found, so that it never waits for a device.
        order = self._merge_order(height, width, config.merge_size)
        self.windows: list[Windows] = []
        self.back: Tensor | None = None
        if config.has_windows:
            by_window, self.windows = self._by_window(order, width, config)
            order = order[by_window]
            merged = by_window[:: config.merge_size**2] // config.merge_size**2
            self.back = send(merged.argsort(), device)
        where = torch.stack((order // width, order % width), dim=-1)
        self.order = send(order, device)
        head_dim = config.width // config.num_heads
        quarter = torch.arange(0, head_dim // 2, 2, device=device, dtype=torch.float32)
        frequencies = 1.0 / ROPE_BASE ** (quarter / (head_dim // 2))
        angles = (send(where, device)[..., None].float() * frequencies).flatten(1)  # [P, Dh / 2]
        angles = torch.cat((angles, angles), dim=-1)[:, None]
        self._cosines, self._sines = angles.cos(), angles.sin()

    def apart(self, rows: Tensor, num_heads: int, turn: Turn | None = None) -> tuple[Tensor, ...]:
        """Return queries and keys of `[N, P, 3 * H * Dh]`, rotated in fp32, and values.

        They are `[N, P, H, Dh]` each; the rows are lost. `turn` does that faster, where it is set.
        """
        angles = (self._cosines[:, 0], self._sines[:, 0])
        if turn is None and can_turn(rows, *angles):
            turn = turn_halves
        if turn is not None:
            turn(rows, *angles, 2 * num_heads)
        query, key, value = rows.reshape(*rows.shape[:2], 3, num_heads, -1).unbind(2)
        if turn is None:
            query, key = (turned(x, self._cosines, self._sines) for x in (query, key))
        return query, key, value

    @staticmethod
    def _merge_order(height: int, width: int, merge: int) -> Tensor:
        """Return the patches in the order in which neighbours that are merged stand together."""
        index = torch.arange(height * width)
        blocks = index.view(height // merge, merge, width // merge, merge)
        return blocks.transpose(1, 2).flatten()

    @staticmethod
    def _by_window(
        order: Tensor, width: int, config: Qwen2VisionConfig
    ) -> tuple[Tensor, list[Windows]]:
        """Return how to sort patches in merge order by their windows' sizes, then by windows."""
        side = config.window_patches
        number = order // width // side * -(-width // side) + order % width // side
        _, window, counts = torch.unique(number, return_inverse=True, return_counts=True)
        key = counts[window] * len(counts) + window
        start, windows = 0, []
        for size, how_many in zip(*torch.unique(counts, return_counts=True), strict=True):
            windows.append(Windows(start, int(how_many), int(size)))
            start += int(how_many) * int(size)
        return key.argsort(stable=True), windows


def turned(heads: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate `[N, P, H, Dh]` in fp32 by tables `[P, 1, Dh]`."""
    x = heads.float()
    first, second = x.chunk(2, dim=-1)
    swapped = torch.cat((-second, first), dim=-1)
    return (x * cosines + swapped * sines).to(heads.dtype)


class VisionAttention(nn.Module):
    """`turn` is a GPU's kernel, where it has one."""

    turn: Turn | None = None

    def __init__(self, config: Qwen2VisionConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = Linear(config.width, 3 * config.width)
        self.proj = Linear(config.width, config.width)

    def plus(self, x: Tensor, residual: Tensor, sight: Sight, *, in_windows: bool) -> Tensor:
        query, key, value = sight.apart(self.qkv(x), self.num_heads, self.turn)
        if not in_windows:
            return self.proj.plus(self._attend(query, key, value).flatten(2), residual)
        mixed = [
            self._attend_within(windows, query, key, value).flatten(2) for windows in sight.windows
        ]
        return self.proj.plus(mixed[0] if len(mixed) == 1 else torch.cat(mixed, dim=1), residual)

    def _attend_within(self, windows: Windows, *heads: Tensor) -> Tensor:
        """Take every window for a little picture of its own."""
        start, number, size = windows
        parts = (
            rows.narrow(1, start, number * size).reshape(-1, size, *rows.shape[2:])
            for rows in heads
        )
        return self._attend(*parts).reshape(len(heads[0]), number * size, self.num_heads, -1)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend_to_all(query, key, value, rounds_rows=self.proj.rounds_rows)


class PlainMlp(nn.Module):
    """`activate` is a GPU's kernel for quick_gelu, where it has one."""

    activate: Callable[[Tensor], Tensor] | None = None

    def __init__(self, config: Qwen2VisionConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.width, config.mlp_width)
        self.fc2 = Linear(config.mlp_width, config.width)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        if self.activate is not None:
            return self.fc2.plus(self.activate(self.fc1(x)), residual)
        return self.fc2.plus(self.fc1.quick_gelu(x), residual)


class GatedMlp(nn.Module):
    def __init__(self, width: int, mlp_width: int, *, bias: bool) -> None:
        super().__init__()
        self.gate_proj = Linear(width, mlp_width, bias=bias)
        self.up_proj = Linear(width, mlp_width, bias=bias)
        self.down_proj = Linear(mlp_width, width, bias=bias)
        self.inner = GateAndUp(self.gate_proj, self.up_proj)

    def plus(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.down_proj.plus(self.inner(x), residual)

    def plus_normed(self, x: Tensor, norm: Norm) -> Tensor:
        """Return the sum of `x`, which may be overwritten, and what is made of its norm."""
        return self.down_proj.plus(self.inner.normed(x, norm), x)


class VisionBlock(nn.Module):
    def __init__(self, config: Qwen2VisionConfig, layer: int) -> None:
        super().__init__()
        self.in_windows = config.has_windows and layer not in config.full_layers
        self.norm1, self.norm2 = _norm(config), _norm(config)
        self.attn = VisionAttention(config)
        self.mlp = (
            GatedMlp(config.width, config.mlp_width, bias=True)
            if config.has_windows
            else PlainMlp(config)
        )

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = self.attn.plus(self.norm1(x), x, sight, in_windows=self.in_windows)
        return self.mlp.plus(self.norm2(x), x)


class FramesLinear(Linear):
    """A convolution over patches of a film, which do not overlap, with a convolution's weight."""

    def __init__(self, out_features: int, patch_size: int) -> None:
        super().__init__(3 * NUM_FRAMES * patch_size**2, out_features, bias=False)
        self.patch_size = patch_size
        shape = (out_features, 3, NUM_FRAMES, patch_size, patch_size)
        self.weight = nn.Parameter(self.weight.detach().view(shape))


class PatchEmbed(nn.Module):
    def __init__(self, config: Qwen2VisionConfig) -> None:
        super().__init__()
        side = config.patch_size
        self.proj = FramesLinear(config.width, side)

    def forward(self, values: Tensor, order: Tensor) -> Tensor:
        """Turn `[N, 3, H * side, W * side]` into `[N, P, C]`, patches in `order`."""
        side = self.proj.patch_size
        num, channels, height, width = values.shape
        patches = values.view(num, channels, height // side, side, width // side, side)
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)[:, order]
        patches = patches.unsqueeze(3).expand(-1, -1, -1, NUM_FRAMES, -1, -1)
        rows: Tensor = self.proj(patches.flatten(2))
        return rows


class Merger(nn.Module):
    def __init__(self, config: Qwen2VisionConfig) -> None:
        super().__init__()
        self.merged_width = config.width * config.merge_size**2
        self.ln_q = _norm(config)
        self.mlp = nn.Sequential(
            Linear(self.merged_width, self.merged_width),
            nn.GELU(),
            Linear(self.merged_width, config.out_width),
        )

    def forward(self, x: Tensor) -> Tensor:
        first, _, second = self.mlp
        rows = self.ln_q(x).reshape(len(x), -1, self.merged_width)
        return cast(Linear, second)(cast(Linear, first).gelu(rows))


class Qwen2VisionTower(nn.Module):
    def __init__(self, config: Qwen2VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(VisionBlock(config, i) for i in range(config.num_layers))
        self.merger = Merger(config)

    def forward(self, values: Tensor) -> Tensor:
        """Turn normalised pictures of one size `[N, 3, H, W]` (pixels) into `[N, rows, D]`."""
        side = self.config.patch_size
        height, width = values.shape[2] // side, values.shape[3] // side
        sight = Sight(height, width, self.config, values.device)
        x = self.patch_embed(values, sight.order)
        for block in self.blocks:
            x = block(x, sight)
        rows: Tensor = self.merger(x)
        return rows if sight.back is None else rows[:, sight.back]


def _norm(config: Qwen2VisionConfig) -> nn.Module:
    if config.has_windows:
        return RoundingNorm(config.width, NORM_EPS)
    return LayerNorm(config.width, NORM_EPS)
