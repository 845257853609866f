"""The consortium as a researcher reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from cohortium.contract.code import files_of
from cohortium.contract.model import Contract, Proposal, Researcher
from cohortium.contract.proposal import StudyFile, read_study, resolve, resolve_draft
from cohortium.core.directory import DirectoryEntry
from cohortium.core.rest import (
    ConsortiumInfo,
    DraftInfo,
    EnclaveInfo,
    MemberInfo,
    StudyInfo,
    UserInfo,
    VersionInfo,
)
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ConflictError, InputError, PolicyRefusal, ProtocolError
from cohortium.sdk.client import Client, fetch_consortium, pinned_http
from cohortium.sdk.drafted import DraftedStudy
from cohortium.sdk.html import facts_html, table_html
from cohortium.sdk.ledger_key import pinned
from cohortium.sdk.profile import Profile, load_profile, which_profile, which_profile_of
from cohortium.sdk.run import Run
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.study import Study
from cohortium.sdk.vault_key import vault_file

IN_FORCE = frozenset({"active", "suspended"})
SHOWN_ID = 8
"""Characters of a run's id that are shown."""


class Federation:
    """Studies, members and runs of one consortium; closes its connections as a context manager.

    Args:
        client: The connection.
        name: The consortium's name.
    """

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    def __repr__(self) -> str:
        return f"<Federation {self.name} at {self._client.url}>"

    def _repr_html_(self) -> str:
        members = [
            (
                m.name,
                m.status,
                "yes" if m.connected else "no",
                ", ".join(d.name for d in m.datasets),
            )
            for m in self.members
        ]
        studies = [(s.id, s.title, s.status) for s in self.studies]
        return (
            facts_html(self.name, {"hub": self._client.url})
            + table_html(("site", "status", "connected", "datasets"), members)
            + table_html(("study", "title", "status"), studies)
        )

    @property
    def members(self) -> list[MemberInfo]:
        """The institutions and what they publish."""
        return [MemberInfo.from_json(one) for one in _listed(self._client.get("/members"))]

    @property
    def users(self) -> list[UserInfo]:
        """The registered researchers."""
        return [UserInfo.from_json(one) for one in _listed(self._client.get("/users"))]

    @property
    def studies(self) -> list[Study]:
        """Every study that is visible to you."""
        return [
            Study(self._client, StudyInfo.from_json(one))
            for one in _listed(self._client.get("/studies"))
        ]

    def study(self, study_id: str | None = None, version: int | str | None = None) -> Study:
        """A study by its id, or the only one there is.

        Args:
            version: Which of its contracts: a number, a digest or the beginning of one. Without it
                the one in force, or else the newest.

        Raises:
            InputError: ``not-found``; ``bad-input`` where there are several and none is named.
        """
        if study_id is not None:
            _check_id(study_id)
            info = StudyInfo.from_json(self._client.get(f"/studies/{study_id}"))
            if version is not None:
                return self.version(study_id, _chosen(info.versions, str(version)))
            return Study(self._client, info)
        studies = self.studies
        if not studies:
            raise InputError("not-found", "There is no study yet; propose one: fed.propose(file).")
        if len(studies) > 1:
            names = ", ".join(study.id for study in studies)
            raise InputError("bad-input", f"There are several studies; name one of: {names}.")
        return self.study(studies[0].id, version)

    def propose(self, proposal: str | Path) -> Study:
        """Sign a study's YAML (text or the path of a file) and put it to its sites.

        Raises:
            InputError: ``bad-proposal`` with the line or the site that does not fit.
            ConflictError: ``already-exists``: `amend` a study whose contract is in force.
        """
        file = self._read(proposal)
        self._upload(file)
        return self.submit_proposal(file.proposal)

    def amend(self, study_id: str, proposal: str | Path) -> Study:
        """Put a new version of a study to its sites; the one in force holds until all have signed.

        Raises:
            InputError: ``bad-proposal``, ``not-found``.
            ConflictError: ``stale-version`` where no contract of the study is in force.
        """
        before = self.study(study_id)
        if before.status not in {"active", "suspended", "expired"}:
            raise ConflictError(
                "stale-version",
                f"The contract of {study_id} is {before.status}; only one in force is amended.",
            )
        file = self._read(proposal)
        self._upload(file)
        return self.submit_proposal(file.proposal, amends=before.contract)

    def submit_proposal(self, proposal: Proposal, *, amends: Contract | None = None) -> Study:
        """`propose` or `amend`, from a proposal already read; its programs are at the hub."""
        contract = resolve(proposal, **self._around(proposal), amends=amends)
        info = self._client.post("/studies", contract.sign(self._client.key))
        return Study(self._client, StudyInfo.from_json(info))

    def _read(self, proposal: str | Path) -> StudyFile:
        """A study's file, its programs included; they belong to you where it names no owner."""
        path, text = _proposal_text(proposal)
        base = None if path is None else path.absolute().parent
        owner = self._me(self.users) if "code" in text else None
        file = read_study(text, base, _builtin_digest, owner)
        _check_tasks(file)
        return file

    def _upload(self, file: StudyFile) -> None:
        """Programs, so that those who sign can read them and an enclave can run them."""
        for digest, archive in file.archives.items():
            self._client.put(f"/code/{digest}", archive)

    def draft(self, proposal: str | Path) -> DraftedStudy:
        """Put a study to its sites whose datasets they choose themselves: each fills its slots.

        Where the study is in force, the draft is of its next version.

        Raises:
            InputError: ``bad-proposal``.
        """
        file = self._read(proposal)
        read = file.proposal
        in_force = [s for s in self.studies if s.id == read.study and s.status in IN_FORCE]
        amends = in_force[0].contract if in_force else None
        draft = resolve_draft(read, **self._around(read), amends=amends)
        self._upload(file)
        info = self._client.post("/drafts", draft.sign(self._client.key))
        return DraftedStudy(self._client, DraftInfo.from_json(info))

    @property
    def drafts(self) -> list[DraftedStudy]:
        """The drafts that are visible to you and not proposed yet."""
        listed = _listed(self._client.get("/drafts"))
        return [DraftedStudy(self._client, DraftInfo.from_json(one)) for one in listed]

    def drafted(self, study_id: str) -> DraftedStudy:
        """A study's draft, or InputError ``not-found``."""
        _check_id(study_id)
        info = DraftInfo.from_json(self._client.get(f"/drafts/{study_id}"))
        return DraftedStudy(self._client, info)

    def _around(self, proposal: Proposal) -> dict[str, Any]:
        """What a proposal's names are looked up in."""
        directory = {
            member.name: DirectoryEntry(name=member.name, key=member.key, datasets=member.datasets)
            for member in self.members
            if member.status == "approved"
        }
        users = self.users
        me = self._me(users)
        _check_computations(proposal)
        return {
            "directory": directory,
            "consortium": self._client.fingerprint,
            "researcher": Researcher(name=me, key=self._client.key.public),
            "users": {user.name: user.key for user in users},
            "versions": _versions(proposal),
            "now": self._client.clock(),
            "enclaves": self._enclaves(proposal),
        }

    def _me(self, users: Sequence[UserInfo]) -> str:
        me = next((user.name for user in users if user.key == self._client.key.public), None)
        if me is None:
            raise PolicyRefusal(
                "not-authorised", "Your key is not registered at this hub, or was removed."
            )
        return me

    @property
    def enclaves(self) -> list[EnclaveInfo]:
        """The machines that run tasks."""
        return [EnclaveInfo.from_json(one) for one in _listed(self._client.get("/enclaves"))]

    def _enclaves(self, proposal: Proposal) -> dict[str, str]:
        if proposal.environment is None or not proposal.environment.enclaves:
            return {}
        return {one.name: one.key for one in self.enclaves if one.status == "approved"}

    def runs(self, study_id: str | None = None) -> list[Run]:
        """Runs of a study, or of all."""
        query = {} if study_id is None else {"study": study_id}
        infos = [RunInfo.from_json(one) for one in _listed(self._client.get("/runs", **query))]
        used = {info.contract_digest: info.study for info in infos}
        contracts = {digest: self.version(name, digest).contract for digest, name in used.items()}
        return [Run(self._client, info, contracts[info.contract_digest]) for info in infos]

    def version(self, study_id: str, digest: str) -> Study:
        """A study under the contract of that digest, in force or not."""
        _check_id(study_id)
        info = self._client.get(f"/studies/{study_id}", contract=digest)
        return Study(self._client, StudyInfo.from_json(info))

    def run(self, run_id: str) -> Run:
        """A run by its id, or by the beginning of it that `Run` and results show."""
        _check_id(run_id)
        if len(run_id) == SHOWN_ID:
            infos = [RunInfo.from_json(one) for one in _listed(self._client.get("/runs"))]
            found = [info.id for info in infos if info.id.startswith(run_id)]
            if len(found) > 1:
                raise InputError("bad-input", f"Name one of the runs {', '.join(found)}.")
            run_id = found[0] if found else run_id
        info = RunInfo.from_json(self._client.get(f"/runs/{run_id}"))
        return Run(self._client, info, self.version(info.study, info.contract_digest).contract)

    def close(self) -> None:
        """Close the connections; a run under way goes on at the hub."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(
    url: str | None = None,
    key: str | Path | SigningKey | None = None,
    *,
    profile: str | Path | None = None,
    fingerprint: str | None = None,
) -> Federation:
    """Connect to a hub as the researcher of a profile or of a key.

    Without arguments the profile that ``cohortium user create`` wrote (or ``$COHORTIUM_PROFILE``)
    says where and who. With `url` and no profile of that hub, `key` and `fingerprint` are needed,
    and the ledger's key is believed as the hub names it: only a profile keeps it.

    Args:
        url: The hub's address, ``https://host:port``.
        key: A private key file, or the key itself; replaces the profile's.
        profile: A profile's name or file.
        fingerprint: ``sha256:...`` of the consortium's CA, from the hub's operator.

    Raises:
        InputError: No profile or key.
        PeerError: The hub is not reachable (asked for at once).
        VerificationError: The server is not the hub of that consortium; ``ledger-key`` where its
            ledger is not signed with the key that the profile has.
    """
    named = url is None or profile is not None
    file = which_profile(profile) if named else which_profile_of(str(url))
    known = None if file is None else load_profile(file)
    if known is None and url is not None and "://" not in url:
        raise InputError(
            "bad-input",
            f"{url!r} is no address of a hub (https://HOST:PORT). A profile's name or file goes "
            "into profile=.",
        )
    if known is None and (key is None or fingerprint is None):
        raise InputError(
            "not-found",
            f"You have no profile of the hub at {url}. Create one: cohortium user create "
            "INVITATION; or give key= and fingerprint= (the operator tells you).",
        )
    if known is not None:
        where, ca_pem = url or known.url, known.ca_pem
        expected = fingerprint or known.fingerprint
    else:
        where, expected = str(url), str(fingerprint)
        ca_pem = fetch_consortium(where, expected).ca_pem
    signing = known.load_key() if key is None and known is not None else _key(key)
    http = pinned_http(where, ca_pem, expected)
    try:
        asking = Client(http, key=signing, fingerprint=expected)
        info = ConsortiumInfo.from_json(asking.get("/consortium"))
        known_key = None if known is None else known.ledger_key
        ledger_key = pinned(known_key, info.ledger_key, expected)
        if known is not None and file is not None and known_key != ledger_key:
            known.model_copy(update={"ledger_key": ledger_key}).save(file)
    except BaseException:
        http.close()
        raise
    client = Client(
        http,
        key=signing,
        fingerprint=expected,
        ledger_key=ledger_key,
        vault_file=_vault_file(key, known),
    )
    return Federation(client, info.name)


def _key(key: str | Path | SigningKey | None) -> SigningKey:
    if isinstance(key, SigningKey):
        return key
    return SigningKey.load(Path(str(key)).expanduser())


def _vault_file(key: str | Path | SigningKey | None, known: Profile | None) -> Path | None:
    """Beside the file of the signing key, where there is one."""
    if isinstance(key, SigningKey):
        return None
    where = key if key is not None or known is None else known.key_file
    return None if where is None else vault_file(Path(str(where)).expanduser())


def _check_computations(proposal: Proposal) -> None:
    """A misspelt built-in would be signed by all and never run; others may be the sites'."""
    from cohortium.analysis.builtin import BUILTIN

    for name in (entry.name for entry in proposal.computations):
        close = get_close_matches(name, BUILTIN, n=1)
        if close and name not in BUILTIN and not name.endswith(".*"):
            raise InputError(
                "bad-proposal", f"There is no analysis {name!r}. Did you mean {close[0]}?"
            )


def _versions(proposal: Proposal) -> dict[str, int]:
    from cohortium.analysis.builtin import versions

    return versions(lambda name: any(entry.covers(name) for entry in proposal.computations))


def _chosen(versions: Sequence[VersionInfo], wanted: str) -> str:
    """The digest of the version that is meant."""
    hex_digits = wanted.removeprefix("sha256:")
    found = [
        one.contract_digest
        for one in versions
        if str(one.version) == wanted
        or (len(hex_digits) >= 8 and one.contract_digest.startswith(f"sha256:{hex_digits}"))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            "bad-input",
            f"Several contracts are version {wanted}; name one by its digest.",
            contracts=found,
        )
    there = ", ".join(f"{one.version} ({one.contract_digest})" for one in versions)
    raise InputError("not-found", f"The study has no version {wanted}; it has {there}.")


def _check_tasks(file: StudyFile) -> None:
    """What does not fit would be signed by all and refused in the enclave."""
    from cohortium.enclave import program

    for task in file.proposal.tasks:
        archive = file.archives.get(task.code.content_digest)
        if archive is None and not task.code.built_in:
            continue  # the hub has it from an earlier version
        try:
            program.of_task(task, None if archive is None else files_of(archive))
        except InputError as error:
            raise InputError("bad-proposal", error.message, task=task.name) from error


def _builtin_digest(name: str) -> str:
    from cohortium.enclave import builtin

    return builtin.find(name).digest


def _proposal_text(proposal: str | Path) -> tuple[Path | None, str]:
    """The file, where it is one, and its text: what has a line break is text."""
    if isinstance(proposal, str) and "\n" in proposal:
        return None, proposal
    path = Path(proposal).expanduser()
    try:
        return path, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("not-found", f"Cannot read a proposal from {path}.") from error


def _listed(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ProtocolError("malformed-message", "The hub did not answer with a list.")
    return value


def _check_id(text: str) -> None:
    """An id goes into a path: nothing that could leave it."""
    if not text or not all(c.isascii() and (c.isalnum() or c == "-") for c in text):
        raise InputError("not-found", f"There is nothing called {text!r}.")
