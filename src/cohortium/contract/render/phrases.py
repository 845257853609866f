"""What a catalogue of phrases holds, one catalogue a language.

Placeholders in braces are the same in each language. Names, numbers, digests, keys and times are
put in as they are in the contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Headings:
    """Titles of the sections, in their order."""

    purpose: str
    participants: str
    variables: str
    derived: str
    cohort: str
    computations: str
    tasks: str
    recipients: str
    protection: str
    environment: str
    parties: str
    time: str
    standing: str
    document: str


@dataclass(frozen=True)
class Phrases:
    """The words of one language."""

    headings: Headings
    heading: str
    title: str
    title_of_draft: str
    comma: str
    semicolon: str
    none: str

    # Participants, variables, cohort
    participant: str
    offer: str
    signed: str
    not_signed: str
    gives_all: str
    gives: str
    source: str
    dataset: str
    dataset_missing: str
    gives_nothing: str
    content: str
    dictionary: str
    key: str
    variable: str
    unit: str
    decimals: str
    levels: str
    missing: str
    column: str
    derived: str
    cohort_all: str
    include: str
    exclude: str
    adjustable: str
    not_adjustable: str

    # Computations and tasks
    computation: str
    family: str
    on_all: str
    on: str
    runs: str
    runs_unlimited: str
    limit: str
    limit_nothing: str
    version: str
    version_none: str
    code: str
    code_public: str
    code_private: str
    program: str
    program_built_in: str
    for_all: str
    only_for: str
    exact: str
    noise: str
    noise_institution: str
    noise_person: str
    budget: str
    holds_without_collusion: str
    holds: str
    argument_required: str
    argument_optional: str
    argument_fixed: str
    input_required: str
    input_optional: str
    filled: str
    filled_dictionary: str
    unfinished: str
    unfilled: str
    output: str
    joint: str
    not_joint: str
    level: str
    level_of_contract: str
    level_of_task: str
    executor: str
    executor_any: str
    limits: str
    limits_of_program: str
    log: str
    log_nobody: str
    lends: str
    lends_nobody: str

    # Protection and environment
    parties_of_run: str
    masked: str
    enclave: str
    floor_site: str
    floor_total: str
    min_cohort: str
    dominance: str
    persons_per_parameter: str
    residual_df: str
    min_at_risk: str
    quantile_tail: str
    max_levels: str
    rounding: str
    by_site: str
    not_by_site: str
    differencing: str
    tasks_apart: str
    measurement: str
    signed_product: str
    measurements_none: str
    tcb_states: str
    tcb_states_none: str
    environment_none: str
    simulated: str
    not_simulated: str
    enclave_named: str
    enclaves_none: str

    # People, time, signatures
    person: str
    proposer: str
    owner: str
    contact: str
    proposed: str
    expires: str
    time_zone: str
    first_version: str
    later_version: str
    progress: str
    refused: str
    waiting: str
    state: str
    suspended: str
    suspended_some: str
    ended: str
    kept: str
    draft: str
    slot_assigned: str
    slot_waits: str
    slot_free: str
    digest: str
    consortium: str
    form: str
    made_from: str

    # Differences
    no_difference: str
    differences: str
    loosening: str
    looser: str
    stricter: str
    was_and_becomes: str
    was: str
    becomes: str
    changes: str
    becomes_list: str
    adds: str
    takes_away: str
    added: str
    removed: str
    reordered: str
    of: str

    values: Mapping[str, Mapping[str, str]]
    """Words for the values of an enumeration, by the pattern of its field."""

    absent: Mapping[str, str]
    """What it means that a field has no value, by its pattern; `none` where not named."""

    fields: Mapping[str, str]
    """What a field, or an item of a list by its ``{name}``, is called, by its pattern."""


__all__ = ["Headings", "Language", "Phrases"]
