"""What training is, whichever framework does the arithmetic.

Both frameworks start from the same weights and see the same patches in the same order.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
from eyes import Plane, batches, padded, read_owner
from scores import picture, scores

Weights = dict[str, Plane]
RATE = 4e-3


class Network(Protocol):
    """A U-Net of a framework."""

    def step(self, seen: Plane, wanted: Plane, rate: float) -> float:
        """Learn from a batch; the loss before."""
        ...

    def probability(self, seen: Plane) -> Plane:
        """That a pixel is of a vessel: (1, 1, height, width) as `seen`."""
        ...

    def weights(self) -> Weights:
        """What it has learnt."""
        ...


def convolutions(width: int) -> dict[str, tuple[int, int, int]]:
    """Channels in, channels out and side of the kernel of each."""
    return {
        "down1a": (1, width, 3),
        "down1b": (width, width, 3),
        "down2a": (width, 2 * width, 3),
        "down2b": (2 * width, 2 * width, 3),
        "bottom_a": (2 * width, 4 * width, 3),
        "bottom_b": (4 * width, 4 * width, 3),
        "up2a": (6 * width, 2 * width, 3),
        "up2b": (2 * width, 2 * width, 3),
        "up1a": (3 * width, width, 3),
        "up1b": (width, width, 3),
        "out": (width, 1, 1),
    }


def initial(width: int, random: np.random.Generator) -> Weights:
    """Random weights after He et al. (2015)."""
    out: Weights = {}
    for name, (taken, given, side) in convolutions(width).items():
        deviation = np.sqrt(2 / (taken * side * side))
        drawn = random.normal(0, deviation, (given, taken, side, side))
        out[f"{name}.weight"] = drawn.astype(np.float32)
        out[f"{name}.bias"] = np.zeros(given, np.float32)
    return out


def train(make: Callable[[Weights, int, int], Network]) -> None:
    """Train, test on eyes that were held out, and write what is asked for."""
    asked = _arguments()
    owners = [read_owner(folder) for folder in (asked.owner_a, asked.owner_b)]
    if any(len(eyes) <= asked.held_out for eyes in owners):
        raise SystemExit(f"Each owner lends more than {asked.held_out} eyes.")
    learnt = [eye for eyes in owners for eye in eyes[: -asked.held_out]]
    tested = [eye for eyes in owners for eye in eyes[-asked.held_out :]]
    random = np.random.default_rng(asked.seed)
    network = make(initial(asked.width, random), asked.width, asked.threads)

    steps = asked.epochs * len(range(0, asked.patches, 16))
    step = 0
    for epoch in range(1, asked.epochs + 1):
        wall, processor, losses = time.perf_counter(), time.process_time(), []
        for seen, wanted in batches(learnt, asked.patches, random):
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            losses.append(network.step(seen, wanted, float(rate)))
            step += 1
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"epoch {epoch} loss {np.mean(losses):.4f} wall {wall:.3f} s cpu {processor:.3f} s")

    found = []
    for eye in tested:
        height, width = eye.plane.shape
        found.append(network.probability(padded(eye.plane))[0, 0, :height, :width])
    measured = {"trained_on": len(learnt), "tested_on": len(tested), **scores(tested, found)}
    print(" ".join(f"{name} {value:.4g}" for name, value in measured.items()))
    for folder in (asked.model, asked.report, asked.pictures):
        folder.mkdir(parents=True, exist_ok=True)
    np.savez(asked.model / "vessels.npz", allow_pickle=False, **network.weights())
    (asked.report / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n")
    picture(tested, found).save(asked.pictures / "predictions.png")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a U-Net on the eyes of two owners.")
    for name in ("owner-a", "owner-b", "model", "report", "pictures"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--patches", type=int, default=384, help="in an epoch")
    parser.add_argument("--width", type=int, default=12, help="channels of the first layer")
    parser.add_argument("--held-out", type=int, default=2, help="eyes of each owner")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()
