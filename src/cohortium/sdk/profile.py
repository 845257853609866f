"""Who you are towards a consortium: where its hub is, its CA, and the file of your key."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cohortium.core.canonical import parse_json
from cohortium.core.dictionary import Digest
from cohortium.core.model import Document
from cohortium.crypto.files import write_private
from cohortium.crypto.keys import SigningKey
from cohortium.errors import InputError, ProtocolError

PROFILE_VARIABLE = "COHORTIUM_PROFILE"
"""Environment variable: the name of a profile or the path of a profile file."""


class Profile(Document):
    """A researcher's membership of one consortium.

    Attributes:
        consortium: Its name.
        user: The name under which the hub knows the researcher.
        ca_pem: The consortium's CA certificate.
        fingerprint: ``sha256:...`` of that certificate.
        key_file: The researcher's private key (0600).
        ledger_key: The verifier key of the consortium's ledger, as it was when it was first seen,
            or as the researcher accepted it since.
    """

    consortium: str
    user: str
    url: str
    ca_pem: str
    fingerprint: Digest
    key_file: str
    ledger_key: str | None = None

    def load_key(self) -> SigningKey:
        """The researcher's key."""
        return SigningKey.load(Path(self.key_file).expanduser())

    def save(self, path: Path) -> None:
        """Write the profile, readable by its owner only."""
        write_private(path, self.to_bytes())


def profiles_folder() -> Path:
    """``$XDG_CONFIG_HOME/cohortium/profiles``."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "cohortium" / "profiles"


def profile_file(name: str | Path) -> Path:
    """The file of a profile: a path as it is, a name below `profiles_folder`."""
    path = Path(name)
    if path.suffix == ".json" or len(path.parts) > 1:
        return path.expanduser()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", str(name)):
        raise InputError(
            "bad-input", f"{name!r} is not a profile name: use letters, digits, - and _."
        )
    return profiles_folder() / f"{name}.json"


def profile_name(consortium: str) -> str:
    """A file name for a consortium's profile."""
    return re.sub(r"[^a-z0-9]+", "-", consortium.lower()).strip("-")[:63] or "default"


def load_profile(name: str | Path | None = None) -> Profile:
    """A profile by name or path; else ``$COHORTIUM_PROFILE``; else the only one there is.

    Raises:
        InputError: ``not-found`` or ``bad-config``.
    """
    return _read(which_profile(name))


def which_profile(name: str | Path | None = None) -> Path:
    """The file that `load_profile` reads."""
    chosen = name if name is not None else os.environ.get(PROFILE_VARIABLE)
    return _only_profile() if chosen is None else profile_file(chosen)


def which_profile_of(url: str) -> Path | None:
    """The file of the profile of the hub at `url`."""
    for path in sorted(profiles_folder().glob("*.json")):
        if _read(path).url.rstrip("/") == url.rstrip("/"):
            return path
    return None


def _only_profile() -> Path:
    found = sorted(profiles_folder().glob("*.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            "not-found",
            "You have no profile yet. Ask the hub's operator for an invitation "
            "(cohortium hub invite --researcher NAME) and run: cohortium user create INVITATION",
        )
    names = ", ".join(path.stem for path in found)
    raise InputError(
        "bad-input",
        f"You have several profiles ({names}). Name one: --profile NAME, "
        f"or set {PROFILE_VARIABLE}.",
    )


def _read(path: Path) -> Profile:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            "not-found", f"There is no profile at {path}; yours: cohortium user list"
        ) from error
    try:
        return Profile.from_json(parse_json(data))
    except ProtocolError as error:
        raise InputError("bad-config", f"{path} is not a profile: {error.message}") from error
