"""Deep leakage from gradients: from a model update back to the images that it was computed from.

The attacker knows the network and its weights, as every site and the hub do in federated learning,
and how many images an update was computed from. It starts from random dummy images and labels and
changes them by L-BFGS until their gradient is the update.

Reference: Zhu, Liu & Han, "Deep Leakage from Gradients", NeurIPS 2019. As there: a LeNet-style
network with sigmoids, weights uniform in +-0.5, labels found along with the images, each iteration
up to 20 steps of L-BFGS. Unlike there: double precision and a line search, which helps the attack.

A stronger attacker also knows what images look like: with a `prior`, those are preferred whose
neighbouring pixels are alike (total variation), as in Geiping et al., "Inverting Gradients: How
Easy Is It to Break Privacy in Federated Learning?", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from examples.gradient_inversion.masking import Update
from examples.gradient_inversion.pictures import Images
from torch import nn

N_CLASSES = 4
CHANNELS = 8


@dataclass(frozen=True)
class Recovered:
    """What an attack found.

    Attributes:
        images: The dummy images at the end.
        labels: Their most likely labels.
        distance: Squared distance of their gradient from the update, plus the prior's cost.
        after: The dummy images after some numbers of iterations.
    """

    images: Images
    labels: list[int]
    distance: float
    after: dict[int, Images]


def network(side: int, seed: int = 7) -> nn.Sequential:
    """The model that is trained; `side` is a multiple of 4."""
    random = torch.Generator().manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, CHANNELS, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(CHANNELS, CHANNELS, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(CHANNELS, CHANNELS, 5, padding=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(CHANNELS * (side // 4) ** 2, N_CLASSES),
    ).double()
    for parameter in model.parameters():
        parameter.data = torch.rand(parameter.shape, generator=random).double() - 0.5
    return model


def update(model: nn.Sequential, images: Images, labels: Collection[int]) -> Update:
    """What a site contributes: the gradient of its images' summed cross entropy."""
    wanted = nn.functional.one_hot(torch.tensor(list(labels)), N_CLASSES).double()
    gradient: Update = _gradient(model, torch.tensor(images)[:, None], wanted).detach().numpy()
    return gradient


def _gradient(
    model: nn.Sequential, images: torch.Tensor, labels: torch.Tensor, *, twice: bool = False
) -> torch.Tensor:
    loss = -(labels * model(images).log_softmax(dim=1)).sum()
    parts = torch.autograd.grad(loss, list(model.parameters()), create_graph=twice)
    return torch.cat([part.reshape(-1) for part in parts])


def invert(
    found: Update,
    *,
    n_images: int,
    side: int,
    iterations: int,
    prior: float = 0.0,
    keep: Collection[int] = (),
    seed: int = 0,
) -> Recovered:
    """Look for `n_images` images whose gradient is `found`.

    Args:
        prior: Weight of the total variation; 0 for the attack of Zhu et al.
        keep: After how many iterations to keep what there is.
        seed: Of the random images and labels to start from.
    """
    torch.set_num_threads(1)  # such small tensors are no faster on two
    model = network(side)
    target = torch.tensor(found)
    random = torch.Generator().manual_seed(seed)
    images = torch.rand((n_images, 1, side, side), generator=random, dtype=torch.double)
    labels = torch.randn((n_images, N_CLASSES), generator=random, dtype=torch.double)
    unknown = [images.requires_grad_(), labels.requires_grad_()]
    optimiser = torch.optim.LBFGS(
        unknown,
        max_iter=20,
        history_size=100,
        tolerance_grad=1e-14,
        tolerance_change=1e-18,
        line_search_fn="strong_wolfe",
    )

    def distance() -> torch.Tensor:
        optimiser.zero_grad()
        ours = _gradient(model, images, labels.softmax(dim=1), twice=True)
        apart = (ours - target).square().sum()
        cost = apart + prior * _unlikely(images) if prior else apart
        cost.backward()
        return cost.detach()

    after = {}
    for iteration in range(1, iterations + 1):
        optimiser.step(distance)
        if iteration in keep:
            after[iteration] = _copy(images)
    return Recovered(
        images=_copy(images),
        labels=labels.argmax(dim=1).tolist(),
        distance=float(distance()),
        after=after,
    )


def _unlikely(images: torch.Tensor) -> torch.Tensor:
    """How much the images vary from pixel to pixel, and leave the range from 0 to 1."""
    down, right = images.diff(dim=2), images.diff(dim=3)
    varies = (down.square() + 1e-4).sqrt().sum() + (right.square() + 1e-4).sqrt().sum()
    outside = (-images).relu().square().sum() + (images - 1).relu().square().sum()
    return varies + 10 * outside


def _copy(images: torch.Tensor) -> Images:
    copied: Images = images.detach()[:, 0].numpy().copy()
    return copied
