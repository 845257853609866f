"""What a contract's noise means for a round: room in the rings, each site's share, the clip.

Hub and sites derive the same plan from the signed contract and the parties of the run; the sites
clip and draw, the hub decodes. How the numbers come about: `cohortium.disclosure.budget`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from cohortium.contract.noise import Noise
from cohortium.core.rounds import Array, Contribution, FieldSpec, Layout
from cohortium.disclosure.budget import Part, share_sigma
from cohortium.errors import InputError, PolicyRefusal
from cohortium.secagg.ring import ring_for

ROUNDING_SHARE: Final = 1 / 16
"""Rounding may add this part of the clip to the sensitivity; above it the ring is too coarse."""

TAIL: Final = 12.0
"""Room for noise, in standard deviations of a share: exceeded with probability 10^-32."""

_SLACK: Final = 1 - 2.0**-20
"""Of the clip, for what floating-point sums of 10^9 squares and float32 products may lose."""

_BLOCK: Final = 1 << 16


@dataclass(frozen=True)
class Plan:
    """The noise of one round, the same at the hub and at all sites.

    Attributes:
        layout: The analysis's, with room for noise in the bounds of vectors.
        sigmas: Parameter of one site's discrete Gaussian noise by field, in integers.
    """

    layout: Layout
    sigmas: Mapping[str, float]


def plan(noise: Noise, layout: Layout, n_sites: int, fewest: int) -> Plan:
    """The noise of a round.

    Args:
        noise: Of the contract.
        layout: The analysis's.
        n_sites: Parties of the run.
        fewest: Parties whose sum may be opened.

    Raises:
        PolicyRefusal: ``not-permitted`` for fields that are neither counts nor vectors;
            ``too-few-sites`` where all of the fewest might collude.
        InputError: ``too-large`` where the ring of 32 bits is too coarse for this clip.
    """
    # 1. Fields that can carry noise. 2. Noise that the colluders do not know. 3. Room for it, at
    # the coarsest scale that is taken: a finer one needs less noise. 4. The scale that is left.
    reals = sorted(name for name, spec in layout.items() if spec.kind == "real")
    if reals:  # 1
        raise PolicyRefusal(
            "not-permitted",
            f"The contract asks for noise, which {', '.join(reals)} cannot carry: only counts and "
            "vectors can.",
            fields=reals,
        )
    shares = fewest - noise.colluders
    if shares < 1:  # 2
        raise PolicyRefusal(
            "too-few-sites",
            f"A sum over {fewest} sites, of which {noise.colluders} may collude, has no noise that "
            "they do not know.",
            sites=fewest,
            min_sites=noise.colluders + 1,
        )
    coarsest = _coarsest_scale(noise.clip, layout)
    most = _share(noise, layout, dict.fromkeys(layout, coarsest), shares)
    room = {name: _with_room(spec, noise, most) for name, spec in layout.items()}  # 3
    scales = {name: 2.0 ** ring_for(spec, n_sites).fraction_bits for name, spec in room.items()}
    if any(scales[n] < coarsest for n, spec in room.items() if spec.kind == "vector"):  # 4
        raise InputError(
            "too-large",
            "The vector is too long, or the clip too small beside its bound, for noise in a ring "
            "of 32 bits.",
        )
    sigma = _share(noise, layout, scales, shares)
    return Plan(room, {name: sigma * scale for name, scale in scales.items()})


def clipped(noise: Noise, contribution: Contribution) -> Contribution:
    """A site's contribution with an L2 norm of at most the clip, over all fields together.

    Where the unit is a person, the bound is the computation's affair, and nothing is changed.

    Raises:
        InputError: ``overflow`` where a component is not finite.
    """
    if noise.unit == "person":
        return contribution
    norm, most = _norm(contribution), noise.clip * _SLACK
    if norm <= most:
        return contribution
    return {name: _shrunk(array, most / norm) for name, array in contribution.items()}


def _coarsest_scale(clip: float, layout: Layout) -> float:
    components = sum(spec.size for spec in layout.values() if spec.kind == "vector")
    if not components:
        return 1.0
    mantissa, exponent = math.frexp(math.sqrt(components) / (ROUNDING_SHARE * clip))
    return 2.0 ** (exponent if mantissa > 0.5 else exponent - 1)


def _share(noise: Noise, layout: Layout, scales: Mapping[str, float], shares: int) -> float:
    parts = [
        Part(spec.size, scales[name], rounded=True)
        if spec.kind == "vector"
        else Part(spec.size, 1.0, rounded=False)
        for name, spec in layout.items()
    ]
    return share_sigma(noise.z, noise.clip, parts, shares)


def _with_room(spec: FieldSpec, noise: Noise, sigma: float) -> FieldSpec:
    if spec.kind != "vector":
        return spec
    own = noise.clip if noise.unit == "institution" else spec.bound
    # To 11 bits, upwards: masks are bound to the layout, and the last bits of sigma may differ from
    # one machine's mathematical library to another's.
    mantissa, exponent = math.frexp(own + TAIL * sigma)
    return replace(spec, bound=math.ldexp(math.ceil(mantissa * 2048), exponent - 11))


def _norm(contribution: Contribution) -> float:
    """The L2 norm over all arrays, in float64; to 10^-7 for 10^9 components."""
    largest = max((_largest(name, array) for name, array in contribution.items()), default=0.0)
    if largest == 0.0:
        return 0.0
    squares = 0.0
    for array in contribution.values():
        flat = array.reshape(-1)
        for first in range(0, flat.size, _BLOCK):
            block = flat[first : first + _BLOCK].astype(np.float64) / largest
            squares += float(np.dot(block, block))
    return largest * math.sqrt(squares)


def _largest(name: str, array: Array) -> float:
    largest = max(float(array.max(initial=0)), -float(array.min(initial=0)))
    if not math.isfinite(largest):
        index = int(np.flatnonzero(~np.isfinite(array.reshape(-1)))[0])
        raise InputError(
            "overflow",
            f"{name}[{index}] is not finite and cannot be clipped; look for outliers.",
            field=name,
            index=index,
        )
    return largest


def _shrunk(array: Array, factor: float) -> Array:
    """Times a factor below 1; counts toward zero."""
    if array.dtype.kind == "f":
        wide: Array = array.astype(np.result_type(array.dtype, np.float32))
        wide *= wide.dtype.type(factor)
        return wide
    return np.trunc(array.astype(np.float64) * factor).astype(np.int64)


__all__ = ["TAIL", "Plan", "clipped", "plan"]
