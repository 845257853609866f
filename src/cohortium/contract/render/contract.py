"""A contract's sections; the same numbers in each language, so that people can refer to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from datetime import datetime
from types import MappingProxyType

from cohortium.contract.draft import DraftLife
from cohortium.contract.lifecycle import Version
from cohortium.contract.model import Contract, Draft
from cohortium.contract.render.catalogue import phrases
from cohortium.contract.render.clauses import Clauses, moment
from cohortium.contract.render.layout import Free, Item, bulleted, name, say, wrap
from cohortium.contract.render.phrases import Phrases
from cohortium.disclosure.limits import Disclosure


def render(
    contract: Contract | Draft,
    signatures: Iterable[str] = (),
    refusals: Mapping[str, str] = MappingProxyType({}),
    language: str = "en",
) -> str:
    """A contract or draft in plain words.

    Args:
        signatures: Names of the signatories that have signed it.
        refusals: Reasons of those that refused it, by name.
        language: ``en`` or ``zh``.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    words, signed = phrases(language), frozenset(signatures)
    standing = (
        [[words.draft]]
        if isinstance(contract, Draft)
        else _signatures(contract, words, signed, refusals)
    )
    return _document(contract, words, signed, standing)


def render_version(version: Version, language: str = "en", now: datetime | None = None) -> str:
    """A contract with its state, and with who suspended or ended it.

    Args:
        now: A contract that is past its expiry then is called expired.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    words, contract = phrases(language), version.contract
    expired = version.open and now is not None and now >= contract.expires_at
    state = words.values["state"]["expired" if expired else version.state]
    standing: list[Item] = [
        [say(words.state, state=state)],
        *(_suspension(words, by, what) for by, what in sorted(version.suspensions.items())),
    ]
    if version.ended_by is not None:
        reason = [] if version.reason is None else [Free(version.reason)]
        standing.append([say(words.ended, name=name(version.ended_by)), *reason])
    standing += [[words.kept, Free(text)] for text in version.keeps]
    standing += _signatures(contract, words, version.signed, version.refused)
    return _document(contract, words, version.signed, standing)


def render_draft(life: DraftLife, language: str = "en") -> str:
    """A draft with what its owners have assigned so far.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    words = phrases(language)
    standing: list[Item] = [[words.draft]]
    unfilled = life.unfilled
    for slot, place in life.slots.items():
        assigned = life.assigned.get(slot, {})
        for author, said in sorted(assigned.items()):
            text = say(
                words.slot_assigned,
                name=name(author),
                artefact=said.artefact.name,
                slot=name(slot),
                digest=said.artefact.content_digest or words.unfinished,
            )
            standing.append([text])
        if slot in unfilled:
            names = Clauses(words).names(sorted(unfilled[slot]))
            standing.append([say(words.slot_waits, slot=name(slot), names=names)])
        elif not place.required and not assigned:
            standing.append([say(words.slot_free, slot=name(slot))])
    return _document(life.draft, words, frozenset(), standing)


def _suspension(words: Phrases, by: str, what: frozenset[str] | None) -> Item:
    if what is None:
        return [say(words.suspended, name=name(by))]
    names = Clauses(words).names(sorted(what))
    return [say(words.suspended_some, name=name(by), names=names)]


def _signatures(
    contract: Contract, words: Phrases, signed: frozenset[str], refusals: Mapping[str, str]
) -> list[Item]:
    names = list(contract.signatories)
    waiting = [one for one in names if one not in signed and one not in refusals]
    items: list[Item] = [
        [say(words.progress, signed=sum(one in signed for one in names), all=len(names))]
    ]
    for one, why in refusals.items():
        items.append([say(words.refused, name=name(one)), Free(why)])
    items += [[say(words.waiting, name=name(one))] for one in waiting]
    return items


def _document(
    contract: Contract | Draft,
    words: Phrases,
    signed: frozenset[str],
    standing: Sequence[Item],
) -> str:
    title = words.title_of_draft if isinstance(contract, Draft) else words.title
    lines = wrap(say(title, title=name(contract.title), study=contract.study), "", "    ")
    sections = [*_terms(contract, words, signed), standing, _signed_document(contract, words)]
    headings = astuple(words.headings)
    for number, (heading, items) in enumerate(zip(headings, sections, strict=True), 1):
        lines += ["", say(words.heading, number=number, title=heading)]
        for item in items or [[words.none]]:
            lines += bulleted(item)
    return "\n".join(lines) + "\n"


def _terms(
    contract: Contract | Draft, words: Phrases, signed: frozenset[str]
) -> list[Sequence[Item]]:
    """The items of each section in the order of `Headings`, up to those on the signatures."""
    clauses = Clauses(words)
    everything = frozenset(variable.name for variable in contract.variables)
    return [
        [[Free(contract.purpose)]],
        [
            [
                say(
                    words.participant,
                    name=name(one.name),
                    signed=words.signed if one.name in signed else words.not_signed,
                ),
                *clauses.offer(one, everything),
            ]
            for one in contract.participants
        ],
        [clauses.variable(one) for one in contract.variables],
        [clauses.derived(one) for one in contract.derived],
        [] if contract.tasks_only else list(clauses.cohort(contract.cohort)),
        [clauses.computation(one) for one in contract.computations],
        [clauses.task(one) for one in contract.tasks],
        [clauses.person(one) for one in contract.recipients],
        _protection(contract, words),
        list(clauses.environment(contract.environment)),
        _parties(contract, clauses),
        _times(contract, words),
    ]


def _protection(contract: Contract | Draft, words: Phrases) -> list[Item]:
    level = words.values["security_level"][contract.security_level]
    if contract.tasks_only:  # nothing is summed, and nothing counts persons
        return [[words.tasks_apart], [say(words.level, level=level)]]
    return [
        [
            say(
                words.parties_of_run,
                min_sites=contract.min_sites,
                participants=len(contract.participants),
            )
        ],
        [words.masked if contract.aggregation == "masked" else words.enclave],
        *([sentence] for sentence in limit_sentences(contract.disclosure, words)),
        *([[words.tasks_apart]] if contract.tasks else []),
        [say(words.level, level=level)],
    ]


def limit_sentences(limits: Disclosure, words: Phrases) -> list[str]:
    """What may come out, a sentence for each limit that is set."""
    floor = words.floor_site if limits.floor == "site" else words.floor_total
    numbers = (
        (words.min_cohort, limits.min_cohort),
        (words.persons_per_parameter, limits.per_parameter),
        (words.residual_df, limits.df),
        (words.quantile_tail, limits.tail),
        (words.min_at_risk, limits.at_risk),
        (words.max_levels, limits.max_levels),
        (words.rounding, limits.rounding),
    )
    rule = limits.dominance
    return [
        say(floor, min_cell=limits.min_cell),
        say(words.differencing, min_cell=limits.min_cell),
        *(say(sentence, value=value) for sentence, value in numbers if value is not None),
        *(
            [say(words.dominance, largest=rule.largest, percent=f"{rule.percent:g}")]
            if rule is not None
            else []
        ),
        words.by_site if limits.by_site else words.not_by_site,
    ]


def _parties(contract: Contract | Draft, clauses: Clauses) -> list[Item]:
    by = contract.proposed_by
    return [
        [say(clauses.words.proposer, name=name(by.name)), clauses.key(by.key)],
        *(clauses.owner(one) for one in contract.owners),
        *(clauses.contact(one) for one in contract.contacts),
    ]


def _times(contract: Contract | Draft, words: Phrases) -> list[Item]:
    return [
        [say(words.proposed, time=moment(contract.created_at))],
        [say(words.expires, time=moment(contract.expires_at))],
        [words.time_zone],
    ]


def _signed_document(contract: Contract | Draft, words: Phrases) -> list[Item]:
    version = words.first_version if contract.amends is None else words.later_version
    return [
        [say(version, version=contract.version, amends=contract.amends)],
        [say(words.digest, digest=contract.digest)],
        [say(words.consortium, digest=contract.consortium)],
        [say(words.form, form=contract.schema_id)],
        [words.made_from],
    ]


__all__ = ["render", "render_draft", "render_version"]
