"""How well vessels were found, inside the field of view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from eyes import Eye, Plane, Region
from numpy.typing import NDArray
from PIL import Image


def scores(eyes: Sequence[Eye], found: Sequence[Plane]) -> dict[str, float]:
    """Dice, area under the ROC curve and accuracy over all pixels of the fields of view."""
    wanted = np.concatenate([eye.vessels[eye.field] for eye in eyes])
    probability = np.concatenate([one[eye.field] for eye, one in zip(eyes, found, strict=True)])
    said = probability > 0.5
    return {
        "dice": float(2 * (said & wanted).sum() / (said.sum() + wanted.sum())),
        "auc": area_under_curve(wanted, probability),
        "accuracy": float((said == wanted).mean()),
    }


def area_under_curve(wanted: Region, value: NDArray[np.floating]) -> float:
    """By ranks (Mann and Whitney), ties shared."""
    _, place, count = np.unique(value, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    ones = int(wanted.sum())
    zeros = len(wanted) - ones
    return float((rank[wanted].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def picture(eyes: Sequence[Eye], found: Sequence[Plane]) -> Image.Image:
    """An eye a column: the photograph as the network sees it, its probabilities, and where it is
    right (white), found too much (red) and too little (blue).
    """
    columns = []
    for eye, probability in zip(eyes, found, strict=True):
        said = (probability > 0.5) & eye.field
        seen = np.clip(eye.plane * 40 + 128, 0, 255) * eye.field
        shown = probability * eye.field * 255
        judged = np.stack([said, said & eye.vessels, eye.vessels], axis=-1) * 255
        rows = [np.repeat(one[..., None], 3, axis=-1) for one in (seen, shown)]
        columns.append(np.concatenate([*rows, judged]))
    return Image.fromarray(np.concatenate(columns, axis=1).astype(np.uint8))
