"""Policy and objective as one module, so that DDP sees every trainable parameter in one forward."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tabom_cli.core.models.base import DiffusionLM
from tabom_cli.core.objectives.base import LossTerms, Objective, PartialState


class TrainModule(nn.Module):
    """Scores a masked state with the policy's current weights."""

    def __init__(self, policy: DiffusionLM, objective: Objective) -> None:
        super().__init__()
        self.network = policy.network
        self.objective = objective
        self._policy = policy

    def forward(self, state: PartialState) -> LossTerms:
        """Loss sums and metrics of one micro-batch."""
        return self.objective(state, self._policy)

    def trainable(self) -> Mapping[str, Tensor]:
        """Trainable parameters by name: what a resumable state holds."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}
