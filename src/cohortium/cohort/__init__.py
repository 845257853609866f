"""Who is in a cohort: criteria and derived variables as SQL expressions, checked and computed.

A text is read by `parser` into a `Node`, which `check` turns into an `Expr` over a study's
variables; `evaluate` computes that on a table, `ibis` in a database.
"""
