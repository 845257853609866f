"""A contract as text that a steward, a lawyer and an ethics board read; it says all that binds."""

from cohortium.contract.render.contract import render

__all__ = ["render"]
