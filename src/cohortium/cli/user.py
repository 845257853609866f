"""``cohortium user``: a researcher's key and profile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors
from cohortium.errors import ConflictError

if TYPE_CHECKING:
    from cohortium.sdk.profile import Profile

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Your own key and profile as a researcher."
)


@app.command()
@handle_errors
def create(
    invitation: Annotated[
        str, typer.Argument(help="The line that the hub's operator gave you.", show_default=False)
    ],
    profile: Annotated[
        str | None, typer.Option(help="Name of the profile; by default the consortium's name.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Use this Ed25519 key (PEM, 0600) instead of making one."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a key on this machine, register it with the invitation and write your profile.

    The private key stays in a file that only you can read.
    """
    from cohortium.core.clock import system_clock
    from cohortium.core.invitation import Invitation
    from cohortium.crypto.keys import fingerprint
    from cohortium.sdk.enrol import enrol
    from cohortium.sdk.vault_key import vault_file

    made = Invitation.from_text(invitation, now=system_clock())
    where = _profile_file(profile, made.consortium)
    if where.exists():
        raise ConflictError(
            "already-exists", f"There is a profile at {where}; choose another with --profile."
        )
    done = enrol(made, where, key_file=key)
    emit(
        {
            "consortium": done.consortium,
            "user": done.user,
            "profile": str(where),
            "key_file": done.key_file,
            "key": done.load_key().public,
            "key_fingerprint": fingerprint(done.load_key().public),
            "ca_fingerprint": done.fingerprint,
            "ledger_key_fingerprint": _key_of(done),
        },
        f"Registered as {done.user} in {done.consortium}.\n"
        f"Profile: {where}\nPrivate key: {done.key_file} (keep it; it is not stored elsewhere)\n"
        f"Vault key: {vault_file(Path(done.key_file))} (opens what tasks give you; keep it too)\n"
        f"Your key's fingerprint:          {fingerprint(done.load_key().public)}\n"
        f"The consortium's CA fingerprint: {done.fingerprint}\n"
        f"The ledger's key's fingerprint:  {_key_of(done)}\n"
        "Compare all three with the hub's operator by telephone.",
        json,
    )


@app.command()
@handle_errors
def show(
    profile: Annotated[str | None, typer.Option(help="Name or file of a profile.")] = None,
    json: JsonOption = False,
) -> None:
    """Show who you are at which hub."""
    from cohortium.crypto.keys import fingerprint
    from cohortium.sdk.profile import load_profile

    found = load_profile(profile)
    public = found.load_key().public
    data = {
        "consortium": found.consortium,
        "user": found.user,
        "url": found.url,
        "key": public,
        "key_fingerprint": fingerprint(public),
        "key_file": found.key_file,
        "ca_fingerprint": found.fingerprint,
        "ledger_key_fingerprint": _key_of(found),
    }
    emit(data, "\n".join(f"{name}: {value}" for name, value in data.items()), json)


@app.command("ledger-key")
@handle_errors
def ledger_key(
    accept: Annotated[
        str | None,
        typer.Option(help="Fingerprint of the new key, as the hub's operator reads it out."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Name or file of a profile.")] = None,
    json: JsonOption = False,
) -> None:
    """Show the key of the ledger that results must be signed with, or accept another one."""
    from cohortium.sdk import ledger_key as keys
    from cohortium.sdk.profile import load_profile, which_profile

    path = which_profile(profile)
    found = load_profile(path) if accept is None else keys.accept(path, accept)
    data = {"ledger_key": found.ledger_key, "ledger_key_fingerprint": _key_of(found)}
    text = _key_of(found) or "Not known yet; it is the one that the hub has when you next connect."
    emit(data, text, json)


@app.command("list")
@handle_errors
def list_profiles(json: JsonOption = False) -> None:
    """List your profiles."""
    from cohortium.sdk.profile import load_profile, profiles_folder

    found = [(path.stem, load_profile(path)) for path in sorted(profiles_folder().glob("*.json"))]
    data = [
        {"profile": name, "consortium": one.consortium, "user": one.user, "url": one.url}
        for name, one in found
    ]
    lines = [
        f"{row['profile']}: {row['user']} in {row['consortium']} at {row['url']}" for row in data
    ]
    emit(data, "\n".join(lines) or "No profile yet: cohortium user create INVITATION", json)


def _key_of(profile: Profile) -> str | None:
    from cohortium.crypto.keys import fingerprint

    return None if profile.ledger_key is None else fingerprint(profile.ledger_key)


def _profile_file(name: str | None, consortium: str) -> Path:
    from cohortium.sdk.profile import PROFILE_VARIABLE, profile_file, profile_name

    chosen = name or os.environ.get(PROFILE_VARIABLE) or profile_name(consortium)
    return profile_file(chosen)
