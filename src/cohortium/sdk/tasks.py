"""Tasks of a study: programs over what institutions lent, run in an enclave."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohortium.contract.model import Contract, Environment
from cohortium.contract.task import LOG_SLOT, InputSlot, OutputSlot, Scalar, SecurityLevel, Task
from cohortium.enclave.exchange import Made, TaskOutcome
from cohortium.enclave.output_archive import members, unpack
from cohortium.enclave.proven import require_lent_to
from cohortium.errors import (
    ConflictError,
    InputError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.sdk.client import Client
from cohortium.sdk.html import facts_html, table_html
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.vault_key import own_key
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import VaultReader

if TYPE_CHECKING:
    import pandas as pd

    from cohortium.sdk.run import Run
    from cohortium.sdk.study import Study

OnBytes = Callable[[str, int, int], None]
"""Told an output's name, bytes so far and bytes in all."""


class StudyTask:
    """A task of a study's contract.

    study.task("segment").run(epochs=14)
    """

    def __init__(self, study: Study, task: Task) -> None:
        self._study = study
        self.terms = task

    def __repr__(self) -> str:
        inputs = ", ".join(slot.name for slot in self.inputs)
        outputs = ", ".join(slot.name for slot in self.outputs)
        return f"<Task {self.name} at {self.level}: {inputs} -> {outputs}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("input", slot.name, slot.kind, ", ".join(slot.owners), "") for slot in self.inputs
        ]
        rows += [
            ("output", slot.name, "", ", ".join(slot.owners), ", ".join(slot.recipients))
            for slot in self.outputs
        ]
        facts = {
            "program": f"{self.terms.code.name} ({self.terms.code.content_digest})",
            "security level": self.level,
            "arguments": ", ".join(
                f"{one.name}={one.value}" if one.value is not None else one.name
                for one in self.terms.arguments
            ),
        }
        columns = ("", "slot", "kind", "owners", "recipients")
        return facts_html(f"Task {self.name}", facts) + table_html(columns, rows)

    @property
    def name(self) -> str:
        """Its name in the contract."""
        return self.terms.name

    @property
    def level(self) -> SecurityLevel:
        """The least security level at which it may run."""
        return self._study.contract.level_of(self.terms)

    @property
    def inputs(self) -> tuple[InputSlot, ...]:
        """What it reads, and whose that is."""
        return self.terms.inputs

    @property
    def outputs(self) -> tuple[OutputSlot, ...]:
        """What it gives, and to whom."""
        return self.terms.outputs

    def submit(self, **arguments: Scalar) -> Run:
        """Sign and submit a run; returns at once with its handle.

        Raises:
            InputError: ``bad-input``, before anything is sent.
            PolicyRefusal: ``not-permitted`` for an argument that the contract fixes.
        """
        self.terms.bound(arguments)
        return self._study.submit_task(self.terms, arguments)

    def run(self, **arguments: Scalar) -> TaskResult:
        """`submit`, and wait for the result.

        Raises:
            CohortiumError: What an owner's node, the enclave or the hub said.
        """
        result = self.submit(**arguments).result()
        if not isinstance(result, TaskResult):
            raise ProtocolError("malformed-message", "The hub's answer is not a task's result.")
        return result


class TaskResult(Result):
    """What a run of a task gave: encrypted files, which their recipients open here.

    The enclave's signature over them is verified, that the contract names this enclave where it
    names any, and that it ran where and as high as the contract asks.

    Args:
        request: Digest of the order, where it was signed here: it is this order that was run.

    Raises:
        VerificationError: It is not what an enclave of the contract signed for this run.
    """

    def __init__(
        self,
        run: RunInfo,
        data: Mapping[str, Any],
        client: Client,
        contract: Contract,
        request: str | None = None,
    ) -> None:
        super().__init__(run, data, {})
        self._client = client
        task = contract.task_of(run.computation)
        if task is None:
            raise VerificationError("bad-digest", "The run is of a task that the contract lacks.")
        self._task = task
        self.outcome = _verified(run, data, contract, request)
        _require_place(self.outcome, contract, task)
        if not (contract.environment or Environment()).enclaves:
            require_lent_to(self.outcome, contract, task, self._document)
        mine = next(
            (name for name, key in contract.parties.items() if key == client.key.public), ""
        )
        self._readable = {one.name for one in task.outputs if mine in one.recipients}
        self._readable |= {LOG_SLOT} if mine in task.log_recipients else set()

    @classmethod
    def signed(
        cls,
        run: RunInfo,
        envelope: bytes,
        client: Client,
        contract: Contract,
        request: str | None = None,
    ) -> TaskResult:
        """Of the outcome that an enclave signed, whether its run has a result or not."""
        outcome, _ = TaskOutcome.open(envelope)
        data = {"outcome": outcome.to_json(), "envelope": base64.b64encode(envelope).decode()}
        return cls(run, data, client, contract, request)

    def _document(self, digest: str) -> bytes:
        return b"".join(self._client.download(f"/runs/{self.run.id}/documents/{digest}"))

    @property
    def outputs(self) -> dict[str, int]:
        """Bytes of each output as it left the enclave, encrypted and padded."""
        return {one.slot: one.size_bytes for one in self.outcome.outputs if one.slot != LOG_SLOT}

    @property
    def readable(self) -> tuple[str, ...]:
        """The outputs that are for you."""
        return tuple(name for name in self.outputs if name in self._readable)

    @cached_property
    def log(self) -> str | None:
        """What the program printed; None where the contract does not give it to you."""
        made = {one.slot for one in self.outcome.outputs}
        if LOG_SLOT not in self._readable & made:
            return None
        return self.read(LOG_SLOT).decode(errors="replace")

    def files(self, slot: str) -> dict[str, int]:
        """Name and bytes of each file of an output that is for you."""
        with self._opened(slot) as reader:
            return {name: len(content.read()) for name, content in members(reader)}

    def read(self, slot: str, path: str | None = None) -> bytes:
        """One file of an output.

        Args:
            path: Which, where the output has several.

        Raises:
            InputError: ``not-found``, ``vault-key-missing``.
            PolicyRefusal: ``not-authorised`` where it is not for you.
            VerificationError: It is not what the enclave signed.
        """
        with self._opened(slot) as reader:
            found: dict[str, bytes] = {
                name: content.read() for name, content in members(reader) if path in {None, name}
            }
        if len(found) > 1:
            names = ", ".join(list(found)[:10])
            raise InputError("bad-input", f"{slot} has several files; name one of {names}.")
        if not found:
            what = "no file" if path is None else f"no file {path!r}"
            raise InputError("not-found", f"{slot} has {what}.")
        return next(iter(found.values()))

    def download(
        self,
        to: str | Path,
        slots: Iterable[str] | None = None,
        on_bytes: OnBytes | None = None,
    ) -> dict[str, list[Path]]:
        """Decrypt outputs to new files below a folder, one folder for each output.

        Args:
            slots: Which; by default all that are for you.

        Returns:
            The written files of each output.

        Raises:
            ConflictError: ``already-exists``: nothing is overwritten.
            PolicyRefusal: ``not-authorised`` for an output that is not for you.
        """
        chosen = tuple(self.readable if slots is None else slots)
        if not chosen:
            raise PolicyRefusal("not-authorised", "No output of this task is for you.")
        for slot in chosen:
            self._made(slot)
        top = Path(to).expanduser()
        there = [top / slot for slot in chosen if (top / slot).exists()]
        if there:
            raise ConflictError("already-exists", f"{there[0]} is there already; name another.")
        top.mkdir(parents=True, exist_ok=True)
        written: dict[str, list[Path]] = {}
        for slot in chosen:
            # Beside its place until it is whole: a folder that is there is a whole output.
            with tempfile.TemporaryDirectory(prefix=".cohortium-", dir=top) as folder:
                part = Path(folder) / slot
                part.mkdir(mode=0o700)
                with self._opened(slot, on_bytes) as reader:
                    names = [one.relative_to(part) for one in unpack(reader, part)]
                part.rename(top / slot)
            written[slot] = [top / slot / name for name in names]
        return written

    def _made(self, slot: str) -> Made:
        made = {one.slot: one for one in self.outcome.outputs}
        if slot not in made:
            raise InputError(
                "not-found", f"The task gave no {slot!r}; it gave {', '.join(made) or 'nothing'}."
            )
        if slot not in self._readable:
            raise PolicyRefusal("not-authorised", f"The contract does not give you {slot}.")
        return made[slot]

    @contextmanager
    def _opened(self, slot: str, on_bytes: OnBytes | None = None) -> Iterator[VaultReader]:
        """An output's archive, decrypted as it is read; only its ciphertext is on the disk."""
        made = self._made(slot)
        keyring = Keyring([own_key(self._client.vault_file)])
        with tempfile.TemporaryDirectory(prefix="cohortium-") as folder:
            encrypted = self._fetch(made, Path(folder) / "output", on_bytes)
            with VaultReader.open(encrypted, keyring) as reader:
                yield reader

    def _fetch(self, made: Made, place: Path, on_bytes: OnBytes | None) -> Path:
        """The ciphertext, checked against the enclave's signed digest."""
        found, size = sha256(), 0
        with place.open("wb") as out:
            for part in self._client.download(f"/runs/{self.run.id}/outputs/{made.slot}"):
                size += len(part)
                if size > made.size_bytes:
                    break
                found.update(part)
                out.write(part)
                if on_bytes is not None:
                    on_bytes(made.slot, size, made.size_bytes)
        if size != made.size_bytes or f"sha256:{found.hexdigest()}" != made.content_digest:
            raise VerificationError(
                "bad-digest", f"The hub gave another file for {made.slot} than the enclave made."
            )
        return place

    def to_frame(self) -> pd.DataFrame:
        """One row for each output: its name, bytes as encrypted, whether it is for you."""
        import pandas as pd

        rows = [(slot, size, slot in self._readable) for slot, size in self.outputs.items()]
        return pd.DataFrame(rows, columns=["output", "encrypted_bytes", "for_you"])

    def interpret(self, lang: Language = "en") -> str:
        """See `Result.interpret`."""
        require_language(lang)
        said = self.outcome
        simulated = said.executor == "simulated"  # it reaches no level
        if lang == "zh":
            place = "模拟环境，不提供任何保护" if simulated else f"{said.executor}，{said.level}"
            return (
                f"任务“{self._task.name}”在{said.enclave}（{place}）中运行"
                f"{said.seconds:.1f}秒，给出{len(self.outputs)}项输出，其中{len(self.readable)}项可由您读取。"
            )
        place = "simulated: NO PROTECTION" if simulated else f"{said.executor}, {said.level}"
        return (
            f"Task {self._task.name} ran for {said.seconds:.1f} s in {said.enclave} "
            f"({place}) and gave {len(self.outputs)} outputs, "
            f"{len(self.readable)} of them for you."
        )

    def _text(self) -> str:
        return f"{self.interpret()}\n\n{self.to_frame().to_string(index=False)}"


def _require_place(said: TaskOutcome, contract: Contract, task: Task) -> None:
    """What hub and lenders ask too; a simulated machine reaches no level."""
    place, least = contract.environment or Environment(), contract.level_of(task)
    simulated = place.allow_simulated and least >= "L3"
    wanted = task.executor or place.executor
    if wanted not in {None, said.executor} or (said.level < least and not simulated):
        raise VerificationError(
            "evidence-refused",
            f"It ran in {said.executor} at {said.level}; the contract asks for "
            f"{wanted or 'any executor'} at {least}.",
        )


def _verified(
    run: RunInfo, data: Mapping[str, Any], contract: Contract, request: str | None
) -> TaskOutcome:
    # 1. What is shown is what was signed. 2. It is about this run, and this order of it. 3. The
    # signer is the enclave that it names, and 4. one of the contract's, where it names any.
    try:
        envelope = base64.b64decode(str(data["envelope"]), validate=True)
        shown = TaskOutcome.from_json(data["outcome"])
    except (KeyError, ValueError) as error:
        raise ProtocolError("malformed-message", "The hub's answer is no task's result.") from error
    outcome, signer = TaskOutcome.open(envelope)
    if shown != outcome:  # 1
        raise VerificationError("bad-digest", "The hub shows another outcome than was signed.")
    about = (outcome.run_id, outcome.contract_digest, f"task.{outcome.task}")
    other = request not in {None, outcome.request_digest}
    if other or about != (run.id, contract.digest, run.computation):  # 2
        raise VerificationError("bad-digest", "The outcome is of another run.")
    if signer != outcome.enclave_key:  # 3
        raise VerificationError("unknown-signer", "The outcome is not signed by its enclave.")
    named = {(one.name, one.key) for one in (contract.environment or Environment()).enclaves}
    if named and (outcome.enclave, signer) not in named:  # 4
        raise VerificationError(
            "unknown-signer", f"{outcome.enclave} is not an enclave that the contract names."
        )
    return outcome
