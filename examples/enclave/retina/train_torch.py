"""Retinal vessels with PyTorch.

python train_torch.py --owner-a FOLDER --owner-b FOLDER --model DIR --report DIR --pictures DIR
"""

from __future__ import annotations

import torch
from eyes import Plane
from torch import Tensor, nn
from torch.nn import functional
from training import Weights, convolutions, train


class UNet(nn.Module):  # type: ignore[misc]
    """Two halvings; each level has two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, (taken, given, side) in convolutions(width).items():
            setattr(self, name, nn.Conv2d(taken, given, side, padding=side // 2))

    def forward(self, seen: Tensor) -> Tensor:
        """Log odds."""
        one = self._level(seen, "down1")
        two = self._level(functional.max_pool2d(one, 2), "down2")
        bottom = self._level(functional.max_pool2d(two, 2), "bottom_")
        two = self._level(torch.cat([_twice(bottom), two], dim=1), "up2")
        one = self._level(torch.cat([_twice(two), one], dim=1), "up1")
        return self.out(one)

    def _level(self, seen: Tensor, name: str) -> Tensor:
        seen = functional.relu(getattr(self, f"{name}a")(seen))
        return functional.relu(getattr(self, f"{name}b")(seen))


def _twice(small: Tensor) -> Tensor:
    return functional.interpolate(small, scale_factor=2, mode="nearest")


class Vessels:
    """The network with its optimiser."""

    def __init__(self, weights: Weights, width: int, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        self._network = UNet(width)
        self._network.load_state_dict({name: torch.tensor(one) for name, one in weights.items()})
        self._optimizer = torch.optim.Adam(self._network.parameters())

    def step(self, seen: Plane, wanted: Plane, rate: float) -> float:
        """Learn from a batch; the loss before."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        truth = torch.from_numpy(wanted)
        odds = self._network(torch.from_numpy(seen))
        found = torch.sigmoid(odds)
        overlap = (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1)
        loss = functional.binary_cross_entropy_with_logits(odds, truth) + 1 - overlap
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        return float(loss.item())

    def probability(self, seen: Plane) -> Plane:
        """That a pixel is of a vessel."""
        with torch.no_grad():
            found: Plane = torch.sigmoid(self._network(torch.from_numpy(seen))).numpy()
        return found

    def weights(self) -> Weights:
        """What it has learnt."""
        return {name: one.numpy() for name, one in self._network.state_dict().items()}


if __name__ == "__main__":
    train(Vessels)
