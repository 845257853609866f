"""The images under attack, and how near a recovered one comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageOps
from scipy.optimize import linear_sum_assignment

Images = npt.NDArray[np.float64]
"""Shape (images, side, side); grey, from 0 to 1."""

SUFFIXES = {".png", ".tif", ".tiff", ".jpg", ".jpeg"}


def made_up_eyes(n_images: int, side: int, seed: int = 1) -> Images:
    """Backs of eyes that nobody has: a bright disc, a dark spot, vessels that branch."""
    random = np.random.default_rng(seed)
    return np.stack([_eye(random, side) for _ in range(n_images)])


def _eye(random: np.random.Generator, side: int) -> Images:
    fine = 8 * side
    rows, columns = np.mgrid[0:fine, 0:fine] / (fine - 1) * 2 - 1
    nasal = random.choice([-1, 1])
    disc = (random.uniform(-0.15, 0.15), nasal * random.uniform(0.4, 0.55))
    tilt = random.uniform(-0.15, 0.15, 2)
    grey = random.uniform(0.5, 0.65) - 0.25 * ((rows - tilt[0]) ** 2 + (columns - tilt[1]) ** 2)
    grey += 0.4 * np.exp(-((((rows - disc[0]) ** 2 + (columns - disc[1]) ** 2) / 0.026) ** 2))
    grey -= 0.2 * np.exp(-((rows - disc[0]) ** 2 + (columns + disc[1] / 3) ** 2) / 0.03)

    vessels = Image.new("L", (fine, fine))
    for upwards in (-1, 1):
        for spread in (0.25, 1.1):
            angle = upwards * (np.pi / 2 + nasal * spread + random.normal(0, 0.15))
            _vessel(vessels, random, disc, angle, width=0.09)
    grey -= 0.3 * np.asarray(vessels) / 255
    grey[rows**2 + columns**2 > 0.9] = 0.02
    coarse: Images = grey.reshape(side, 8, side, 8).mean((1, 3)).clip(0, 1)
    return coarse


def _vessel(
    canvas: Image.Image,
    random: np.random.Generator,
    start: tuple[float, float],
    angle: float,
    *,
    width: float,
) -> None:
    """A vessel from `start` to the rim, in units of half the side; it bends, thins and branches."""
    pen, half = ImageDraw.Draw(canvas), (canvas.width - 1) / 2
    row, column = start
    bend = random.normal(0, 0.6)
    while row**2 + column**2 < 0.9 and width > 0.02:
        next_row, next_column = row + 0.05 * np.sin(angle), column + 0.05 * np.cos(angle)
        ends = [(place + 1) * half for place in (column, row, next_column, next_row)]
        pen.line(ends, fill=255, width=max(1, round(width * half)))
        row, column, angle = next_row, next_column, angle + 0.05 * bend + random.normal(0, 0.04)
        if random.random() < 0.06:
            width *= 0.75
            turn = random.choice([-1, 1]) * random.uniform(0.4, 0.8)
            _vessel(canvas, random, (row, column), angle + turn, width=width)


def load(folder: Path, side: int, at_most: int) -> Images:
    """The middles of a folder's first images: green channel, contrast stretched, `side` square."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return np.stack([_middle(path, side) for path in files[:at_most]])


def _middle(path: Path, side: int) -> Images:
    with Image.open(path) as opened:
        green = opened.convert("RGB").getchannel("G")
    reach = min(green.size) * 3 // 10
    x, y = green.width // 2, green.height // 2
    middle = green.crop((x - reach, y - reach, x + reach, y + reach))
    small = middle.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(ImageOps.autocontrast(small, cutoff=1)) / 255


def psnr_db(recovered: Images, original: Images) -> float:
    """Peak signal-to-noise ratio of one image. Above 30 dB nobody sees a difference."""
    error = np.clip(np.nan_to_num(recovered, nan=0.5), 0, 1) - original
    return float(-10 * np.log10(np.mean(error**2) + 1e-10))


def pair_up(recovered: Images, originals: Images) -> list[int]:
    """For each original, the place of the recovered image that is shown beside it.

    The pairs are those with the largest sum of ratios: the attacker is given the benefit of the
    doubt, since an update does not say in which order the images were.
    """
    ratios = [[psnr_db(image, original) for image in recovered] for original in originals]
    _, places = linear_sum_assignment(-np.array(ratios))
    return [int(place) for place in places]
