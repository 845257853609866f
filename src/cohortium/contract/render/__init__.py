"""A contract as text that a steward, a lawyer and an ethics board read; it says all that binds."""

from cohortium.contract.render.catalogue import phrases
from cohortium.contract.render.contract import (
    limit_sentences,
    render,
    render_draft,
    render_version,
)
from cohortium.contract.render.difference import render_diff
from cohortium.contract.render.phrases import Language

__all__ = [
    "Language",
    "limit_sentences",
    "phrases",
    "render",
    "render_diff",
    "render_draft",
    "render_version",
]
