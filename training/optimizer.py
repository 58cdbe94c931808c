"""Muon for the matrices, AdamW for the rest, one schedule for both."""

import torch
from torch import nn


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Tables are looked up, not multiplied: their rows want their own scales."""
    tables = ("embedding", "output_layer", "patch_embedding", "place", "query", "boi", "eoi")
    return parameter.ndim == 2 and min(parameter.shape) > 4 and not any(t in name for t in tables)


class Optimizer:
    """The pair of optimizers over all of `modules`, stepped with one learning-rate factor."""

    def __init__(
        self, modules: nn.ModuleDict, muon_rate: float = 4e-3, adam_rate: float = 1.2e-3
    ) -> None:
        named = [(n, p) for n, p in modules.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if _is_matrix(n, p) and "query_key_value.bias" not in n]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices,
                lr=muon_rate,
                momentum=0.95,
                weight_decay=0.02,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
            ),
        ]
        self._parameters = [p for _, p in named]
        self._rates = [muon_rate, adam_rate]

    def step(self, factor: float, max_norm: float = 2.0) -> float:
        """Clip, step at `factor` times the base rates, clear; return the gradient's norm."""
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, max_norm)
        for part, rate in zip(self.parts, self._rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * factor
            part.step()
            part.zero_grad(set_to_none=True)
        return float(norm)

    def state_dict(self) -> list[dict[str, object]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, object]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)
