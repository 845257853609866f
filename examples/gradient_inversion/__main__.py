"""Attack one site's plain update, what the hub sees of it, and the sum of three sites.

python -m examples.gradient_inversion [--data FOLDER] [--out PICTURE.png]
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from examples.gradient_inversion.figure import Cell, Panel, draw
from examples.gradient_inversion.masking import Update, secure_sum
from examples.gradient_inversion.pictures import Images, load, made_up_eyes, pair_up, psnr_db

try:
    from examples.gradient_inversion import attack
except ModuleNotFoundError as error:
    raise SystemExit(
        f"{error}. The attack needs PyTorch: pip install -c constraints.txt -e '.[torch]'"
    ) from error

SITES = 3
EACH = 3
SIDE = 32
EPSILON = 8.0
KEEP = (10, 25, 50, 100)
PRIOR = 1e-5
"""Of 10^-4, 10^-5 and 10^-6 the weight with which the most is recovered from the sum."""


@dataclass(frozen=True)
class Job:
    """An attack to run.

    Attributes:
        found: The vector that is attacked.
        which: The images behind it, by their places among all.
        iterations: About so many that nothing changes any more, or is recognised long before.
        prior: Weight of the image prior; 0 for the attack of Zhu et al.
    """

    name: str
    found: Update
    which: Sequence[int]
    iterations: int
    prior: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """An attack's result beside the images that it was after."""

    job: Job
    originals: Images
    labels: Sequence[int]
    recovered: attack.Recovered

    @property
    def order(self) -> list[int]:
        """Which recovered image goes with which original."""
        return pair_up(self.recovered.images, self.originals)

    def cells(self, images: Images | None = None) -> list[Cell]:
        """The attack's images (at the end, or at some earlier iteration), with their ratios."""
        images = self.recovered.images if images is None else images
        return [
            Cell(images[place], f"{psnr_db(images[place], original):.0f} dB")
            for place, original in zip(self.order, self.originals, strict=True)
        ]

    def row(self) -> tuple[str, ...]:
        """A line of the table."""
        right = sum(
            self.recovered.labels[place] == label
            for place, label in zip(self.order, self.labels, strict=True)
        )
        return (
            self.job.name,
            "image prior" if self.job.prior else "Zhu et al.",
            str(len(self.originals)),
            ", ".join(cell.note.removesuffix(" dB") for cell in self.cells()),
            f"{right} of {len(self.originals)}",
        )


def main() -> None:
    """Run the attacks; print a table, write a picture."""
    parser = argparse.ArgumentParser(prog="python -m examples.gradient_inversion")
    parser.add_argument("--data", type=Path, help="a folder of images, instead of made-up eyes")
    parser.add_argument("--out", type=Path, default=Path("gradient-inversion.png"))
    options = parser.parse_args()
    began = time.monotonic()

    drawn = SITES * EACH + 200  # those beyond the sites' tell what such images look like
    if options.data is None:
        images = made_up_eyes(drawn, SIDE)
    else:
        images = load(options.data, SIDE, at_most=drawn)
    images, others = images[: SITES * EACH], images[SITES * EACH :]
    if not len(others):
        raise SystemExit(f"{options.data} holds fewer than {SITES * EACH + 1} images.")
    jobs = attacks(images)
    print(
        f"{len(jobs['plain'].found)} parameters; {EACH} images of {SIDE**2} pixels at each site\n"
    )
    outcomes = run(jobs, images)
    print_table(outcomes, images, others)
    draw(bands(outcomes), options.out)
    print(f"\n{options.out} written; {time.monotonic() - began:.0f} s")


def label(place: int) -> int:
    """A made-up diagnosis for the image at that place."""
    return place % attack.N_CLASSES


def attacks(images: Images) -> dict[str, Job]:
    """Three sites' updates, their sums, and who attacks what."""
    model = attack.network(SIDE)
    starts = range(0, SITES * EACH, EACH)

    def updates(n_images: int) -> list[Update]:
        """By site, from its first images."""
        sites = [range(start, start + n_images) for start in starts]
        return [attack.update(model, images[list(s)], [label(p) for p in s]) for s in sites]

    seen, noisy, ones = secure_sum(updates(EACH)), secure_sum(updates(EACH), EPSILON), updates(1)
    site, every = range(EACH), range(SITES * EACH)
    plain, total = "one site's update, without masks", "the sum of three sites"
    noise = f"{total}, with noise (epsilon {EPSILON:g})"
    return {
        "plain": Job(plain, seen.plain[0], site, 200),
        "plain+": Job(plain, seen.plain[0], site, 100, PRIOR),
        "masked": Job("the same, masked, as the hub sees it", seen.masked[0], site, 50),
        "total": Job(total, seen.total, every, 100),
        "total+": Job(total, seen.total, every, 150, PRIOR),
        "ones+": Job(f"{total}, one image each", secure_sum(ones).total, starts, 100, PRIOR),
        "noisy+": Job(noise, noisy.total, every, 50, PRIOR),
    }


def run(jobs: Mapping[str, Job], images: Images) -> dict[str, Outcome]:
    """The outcome of each attack, one attack a core."""
    longest_first = sorted(jobs, key=lambda key: -jobs[key].iterations * len(jobs[key].which))
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {
            key: pool.submit(
                attack.invert,
                jobs[key].found,
                n_images=len(jobs[key].which),
                side=SIDE,
                iterations=jobs[key].iterations,
                prior=jobs[key].prior,
                keep=KEEP,
            )
            for key in longest_first
        }
        return {
            key: Outcome(
                job,
                images[list(job.which)],
                [label(place) for place in job.which],
                futures[key].result(),
            )
            for key, job in jobs.items()
        }


def print_table(outcomes: Mapping[str, Outcome], images: Images, others: Images) -> None:
    """One line for each attack, and one for a guess without any update."""
    print("| What is attacked | Attack | Images | PSNR of each, dB | Labels found |")
    print("|---|---|---|---|---|")
    for outcome in outcomes.values():
        print(f"| {' | '.join(outcome.row())} |")
    guess = others.mean(axis=0)
    guessed = ", ".join(f"{psnr_db(guess, image):.0f}" for image in images)
    print(f"| nothing | the mean of {len(others)} other images | {len(images)} | {guessed} | |")


def bands(outcomes: Mapping[str, Outcome]) -> list[list[Panel]]:
    """The picture: one site above, the sum of three below."""
    plain, masked = outcomes["plain"], outcomes["masked"]
    columns = [
        [Cell(original) for original in plain.originals],
        *(plain.cells(images) for images in plain.recovered.after.values()),
        plain.cells(),
        masked.cells(),
    ]
    headings = [f"{step} iterations" for step in (*plain.recovered.after, plain.job.iterations)]
    one_site = Panel(
        "Site 1's update without masks, iteration by iteration; and as the hub sees it",
        ["original", *headings, "masked"],
        [list(row) for row in zip(*columns, strict=True)],
    )
    total, ones = outcomes["total"], outcomes["ones+"]
    rows = {
        "original": [Cell(image) for image in total.originals],
        "attack of\nZhu et al.": total.cells(),
        "attack with\nimage prior": outcomes["total+"].cells(),
        f"with noise\n(epsilon {EPSILON:g}),\nimage prior": outcomes["noisy+"].cells(),
    }
    three_sites = Panel(
        "The sum of three sites",
        [f"site {place // EACH + 1}" for place in range(SITES * EACH)],
        list(rows.values()),
        list(rows),
    )
    one_each = Panel(
        "A sum of one image from each",
        [f"site {site}" for site in range(1, SITES + 1)],
        [[Cell(image) for image in ones.originals], ones.cells()],
    )
    return [[one_site, one_each], [three_sites]]


if __name__ == "__main__":
    main()
