"""The clauses of a contract in a language: what each of its parts says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from cohortium.contract.model import (
    Cohort,
    Computation,
    Contact,
    Enclave,
    Environment,
    Measurement,
    Participant,
    Researcher,
    Seat,
)
from cohortium.contract.noise import Noise
from cohortium.contract.render.layout import Free, Item, name, quoted, say, value
from cohortium.contract.render.phrases import Phrases
from cohortium.contract.task import (
    MIB,
    Argument,
    Artefact,
    Code,
    InputSlot,
    Limits,
    OutputSlot,
    Task,
)
from cohortium.core.dictionary import Variable
from cohortium.core.selection import Derived
from cohortium.crypto.keys import fingerprint


def moment(when: datetime) -> str:
    """``2026-11-22 09:30:00 UTC``, in any language."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _size(count: int) -> str:
    """Bytes in the largest binary unit that says them exactly."""
    for unit, name_of_unit in ((MIB, "MiB"), (1024, "KiB")):
        if count and count % unit == 0:
            return f"{count // unit} {name_of_unit}"
    return f"{count} B"


@dataclass(frozen=True)
class Clauses:
    """What the parts of a contract say in the words of one catalogue."""

    words: Phrases

    def names(self, texts: Iterable[str]) -> str:
        """Names in a row."""
        return self.words.comma.join(name(text) for text in texts) or self.words.none

    def quotes(self, texts: Iterable[str]) -> str:
        """Texts in quotation marks in a row."""
        return self.words.comma.join(quoted(text) for text in texts) or self.words.none

    def word(self, pattern: str, data: object) -> str:
        """A value of an enumeration."""
        key = str(data).lower() if isinstance(data, bool) else str(data)
        return self.words.values[pattern][key]

    def offer(self, one: Participant | Seat, everything: frozenset[str]) -> Item:
        """What an institution gives."""
        words = self.words
        if not one.variables and not isinstance(one, Participant):
            return [words.gives_nothing, self.key(one.key)]
        dataset = (
            say(words.dataset, name=one.dataset)
            if isinstance(one, Participant)
            else words.dataset_missing
        )
        whole = set(one.variables) == everything
        gives = words.gives_all if whole else say(words.gives, names=self.names(one.variables))
        lines = [
            say(words.offer, dataset=dataset, gives=gives),
            *(say(words.source, name=n, column=c) for n, c in sorted(one.sources.items())),
        ]
        if isinstance(one, Participant):
            lines += [
                say(words.content, digest=one.dataset_digest),
                say(words.dictionary, digest=one.dictionary_digest),
            ]
        return [*lines, self.key(one.key)]

    def key(self, key: str) -> str:
        """A key's fingerprint, on a line of its own to be compared by telephone."""
        return say(self.words.key, key=fingerprint(key))

    def variable(self, one: Variable) -> Item:
        """A variable and, behind bars, its description."""
        words = self.words
        facts = [self.word("variables.*.type", one.type.value)]
        if one.unit is not None:
            facts.append(say(words.unit, unit=name(one.unit)))
        if one.decimals is not None:
            facts.append(say(words.decimals, decimals=one.decimals))
        if one.levels is not None:
            facts.append(say(words.levels, levels=self.quotes(one.levels)))
        if one.missing is not None:
            facts.append(say(words.missing, missing=one.missing))
        if one.source is not None:
            facts.append(say(words.column, column=quoted(one.source)))
        line = say(words.variable, name=one.name, facts=words.semicolon.join(facts))
        return [line, Free(one.description)] if one.description else [line]

    def derived(self, one: Derived) -> Item:
        """A derived variable and its expression."""
        return [say(self.words.derived, name=one.name), Free(one.expression)]

    def cohort(self, one: Cohort | None) -> Iterator[Item]:
        """Who is in the study."""
        words = self.words
        if one is None or not (one.include or one.exclude):
            yield [words.cohort_all]
        for text in () if one is None else one.include:
            yield [words.include, Free(text)]
        for text in () if one is None else one.exclude:
            yield [words.exclude, Free(text)]
        if one is None or not one.adjustable:
            yield [words.not_adjustable]
        else:
            yield [say(words.adjustable, names=self.names(one.adjustable))]

    def computation(self, one: Computation) -> Item:
        """A permitted computation, its limits and its noise."""
        words = self.words
        facts = [words.family] if one.name.endswith(".*") else []
        facts.append(
            words.on_all
            if one.variables is None
            else say(words.on, names=self.names(one.variables))
        )
        facts.append(self._runs(one.max_runs))
        facts.append(
            words.for_all
            if one.recipients is None
            else say(words.only_for, names=self.names(one.recipients))
        )
        line = say(words.computation, name=one.name, facts=words.semicolon.join(facts))
        code = [] if one.code is None else [self.code(one.code)]
        versions = [say(words.version, name=n, version=v) for n, v in sorted(one.versions.items())]
        if not versions and not code:
            versions = [words.version_none]
        limits = [
            say(words.limit, name=n, values=words.comma.join(map(value, allowed)))
            if allowed
            else say(words.limit_nothing, name=n)
            for n, allowed in sorted(one.limits.items())
        ]
        return [line, *code, *versions, *limits, *self.noise(one.noise)]

    def _runs(self, runs: int | None) -> str:
        words = self.words
        return words.runs_unlimited if runs is None else say(words.runs, runs=runs)

    def code(self, one: Code) -> str:
        """Custom code."""
        words = self.words
        access = words.code_public if one.public else words.code_private
        return say(
            words.code,
            name=one.name,
            owner=name(one.owner),
            access=access,
            digest=one.content_digest,
        )

    def noise(self, one: Noise | None) -> list[str]:
        """What the noise hides, and the budget."""
        words = self.words
        if one is None:
            return [words.exact]
        unit = words.noise_institution if one.unit == "institution" else words.noise_person
        clip = value(one.clip)
        multiplier = words.none if one.multiplier is None else value(one.multiplier)
        holds = words.holds if one.colluders else words.holds_without_collusion
        return [
            say(words.noise, multiplier=multiplier, clip=clip, unit=say(unit, clip=clip)),
            say(words.budget, epsilon=value(one.epsilon), delta=value(one.delta), sums=one.sums),
            say(holds, colluders=one.colluders),
        ]

    def task(self, one: Task) -> Item:
        """A task, its code and its slots."""
        words = self.words
        level = (
            words.level_of_contract
            if one.security_level is None
            else say(words.level_of_task, level=self.word("security_level", one.security_level))
        )
        facts = words.semicolon.join(
            [self._runs(one.max_runs), level, self._executor(one.executor)]
        )
        return [
            say(words.computation, name=one.name, facts=facts),
            self.program(one.code),
            words.limits_of_program if one.limits is None else self.limits(one.limits),
            *(self.argument(argument) for argument in one.arguments),
            *(line for slot in one.inputs for line in self.input(slot)),
            say(words.lends, names=self.names(one.lenders)) if one.lenders else words.lends_nobody,
            *(self.output(slot) for slot in one.outputs),
            say(words.log, names=self.names(one.log_recipients))
            if one.log_recipients
            else words.log_nobody,
        ]

    def program(self, one: Code) -> str:
        """What a task runs."""
        words = self.words
        return say(
            words.program_built_in if one.built_in else words.program,
            name=one.name,
            owner=name(one.owner),
            access=words.code_public if one.public else words.code_private,
            digest=one.content_digest,
        )

    def limits(self, one: Limits) -> str:
        """Most of what a run of a task may use."""
        return say(
            self.words.limits,
            memory=_size(one.memory_bytes),
            cpu=value(one.cpu_s),
            time=value(one.time_s),
            disk=_size(one.disk_bytes),
            processes=one.processes,
            log=_size(one.log_bytes),
        )

    def _executor(self, executor: str | None) -> str:
        words = self.words
        return words.executor_any if executor is None else say(words.executor, executor=executor)

    def argument(self, one: Argument) -> str:
        """An argument, set by who runs the task or fixed."""
        words = self.words
        if one.value is not None:
            required = self.word("tasks.*.arguments.*.required", one.required)
            return say(
                words.argument_fixed, name=one.name, value=value(one.value), required=required
            )
        text = words.argument_required if one.required else words.argument_optional
        return say(text, name=one.name)

    def input(self, one: InputSlot) -> list[str]:
        """An input slot, and what fills it."""
        words = self.words
        slot = say(
            words.input_required if one.required else words.input_optional,
            name=one.name,
            kind=self.word("tasks.*.inputs.*.kind", one.kind),
            owners=self.names(one.owners),
        )
        if one.artefact is None:
            return [f"{slot}{words.semicolon}{words.unfilled}"]
        return [slot, *self.artefact(one.artefact)]

    def artefact(self, one: Artefact) -> list[str]:
        """What fills an input slot."""
        words = self.words
        lines = [
            say(
                words.filled,
                artefact=one.name,
                owners=self.names(one.owners),
                digest=one.content_digest or words.unfinished,
            )
        ]
        if one.dictionary_digest is not None:
            lines.append(say(words.filled_dictionary, digest=one.dictionary_digest))
        return lines

    def output(self, one: OutputSlot) -> str:
        """An output slot: whose it is, and who reads it."""
        words = self.words
        return say(
            words.output,
            name=one.name,
            owners=self.names(one.owners),
            joint=words.joint if one.joint else words.not_joint,
            recipients=self.names(one.recipients),
        )

    def environment(self, one: Environment | None) -> Iterator[Item]:
        """Where computations run."""
        words = self.words
        if one is None:
            yield [words.environment_none]
            return
        yield [self._executor(one.executor)]
        for kind in dict.fromkeys(measurement.kind for measurement in one.measurements):
            accepted = [self._measured(m) for m in one.measurements if m.kind == kind]
            yield [say(words.measurement, kind=kind), *accepted]
        if not one.measurements:
            yield [words.measurements_none]
        states = self.names(one.tcb_states)
        yield [say(words.tcb_states, states=states) if one.tcb_states else words.tcb_states_none]
        yield [words.simulated if one.allow_simulated else words.not_simulated]
        for enclave in one.enclaves:
            yield [say(words.enclave_named, name=name(enclave.name)), *self.enclave(enclave)]
        if not one.enclaves:
            yield [words.enclaves_none]

    def enclave(self, one: Enclave) -> Item:
        """The key of an enclave."""
        return [] if one.key is None else [self.key(one.key)]

    def _measured(self, one: Measurement) -> str:
        if one.product is None and one.min_svn is None:
            return one.value
        versions = {"product": one.product, "min_svn": one.min_svn}
        numbers = {k: "-" if v is None else str(v) for k, v in versions.items()}
        return say(self.words.signed_product, value=one.value, **numbers)

    def person(self, one: Researcher) -> Item:
        """A name and its key."""
        return [say(self.words.person, name=name(one.name)), self.key(one.key)]

    def owner(self, one: Researcher) -> Item:
        """Who owns code or data without giving a dataset."""
        return [say(self.words.owner, name=name(one.name)), self.key(one.key)]

    def contact(self, one: Contact) -> Item:
        """Whom to ask."""
        return [
            say(self.words.contact, name=name(one.name), role=name(one.role), email=name(one.email))
        ]


__all__ = ["Clauses", "moment"]
