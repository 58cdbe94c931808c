"""Muon for the matrices, AdamW for the rest, one schedule for both."""

from typing import Any

import torch
from torch import Tensor, nn

_TABLES = ("embedding", "output_layer", "rows.place", "rows.query", "boi", "eoi")


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Tables are looked up, not multiplied: their rows want their own scales."""
    is_flat = parameter.ndim == 2 and min(parameter.shape) > 4
    return is_flat and not any(table in name for table in _TABLES)


class Muon(torch.optim.Muon):
    """torch's Muon with its matrix products in fp32: several times faster than bf16 products on a
    CPU that has no instructions for those. Nesterov momentum, Newton-Schulz iteration, steps scaled
    to the size of AdamW's (Jordan et al. 2024; Liu et al. 2025).
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                update = _orthogonal(parameter.grad.lerp(momentum, group["momentum"]), group)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                size = 0.2 * max(parameter.shape) ** 0.5
                parameter.add_(update, alpha=-group["lr"] * size)


def _orthogonal(matrix: Tensor, group: dict[str, Any]) -> Tensor:
    """Return about U V^T of the singular value decomposition U S V^T."""
    a, b, c = group["ns_coefficients"]
    x = matrix.float()
    x = x.T if x.shape[0] > x.shape[1] else x
    x = x / x.norm().clamp_min(group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Optimizer:
    """The pair of optimizers over all of `modules`, stepped with one learning-rate factor.

    Parameters of the vision tower move at `tower_rate` times the rate of the others.
    """

    def __init__(
        self,
        modules: nn.ModuleDict,
        muon_rate: float = 4e-3,
        adam_rate: float = 1.2e-3,
        tower_rate: float = 1.0,
    ) -> None:
        named = [(n, p) for n, p in modules.named_parameters() if p.requires_grad]
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in named:
            key = (_is_matrix(name, parameter), ".vision." in name)
            groups.setdefault(key, []).append(parameter)
        share = {True: tower_rate, False: 1.0}
        muon = [
            {"params": found, "base": muon_rate * share[is_tower]}
            for (is_matrix, is_tower), found in groups.items()
            if is_matrix
        ]
        adam = [
            {"params": found, "base": adam_rate * share[is_tower]}
            for (is_matrix, is_tower), found in groups.items()
            if not is_matrix
        ]
        self.parts: list[torch.optim.Optimizer] = [
            Muon(
                muon,
                lr=muon_rate,
                momentum=0.95,
                weight_decay=0.02,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(adam, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        ]
        self._parameters = [p for _, p in named]

    def step(self, factor: float, max_norm: float = 2.0) -> float:
        """Clip, step at `factor` times the base rates, clear; return the gradient's norm."""
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, max_norm)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = group["base"] * factor
            part.step()
            part.zero_grad(set_to_none=True)
        return float(norm)

    def state_dict(self) -> list[dict[str, object]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
