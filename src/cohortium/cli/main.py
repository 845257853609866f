"""``cohortium``: the command line of hub, node and researcher.

A group's module is imported only when one of its commands is used, so that ``--help`` is quick and
``cohortium node serve`` does not carry the libraries of a notebook.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cohortium.errors import FAMILIES
from cohortium.version import __version__

GROUPS: dict[str, tuple[str, str]] = {
    "hub": ("cohortium.cli.hub", "Run a consortium's hub and its membership."),
    "node": ("cohortium.cli.node", "Run an institution's node."),
    "data": ("cohortium.cli.data", "Register an institution's datasets at its node."),
    "study": ("cohortium.cli.study", "Propose and amend studies; sign and suspend them at a node."),
    "run": ("cohortium.cli.run", "Compute under a signed study: cohortium run STUDY describe ..."),
    "task": ("cohortium.cli.task", "Run a study's tasks in an enclave; open what they give."),
    "audit": ("cohortium.cli.audit", "Export the evidence of a study, and verify it offline."),
    "enclave": ("cohortium.cli.enclave", "Where programs run on lent data, and a try of one."),
    "user": ("cohortium.cli.user", "Your own key and profile as a researcher."),
    "lend": ("cohortium.cli.lend", "Lend data to tasks; open what tasks gave your institution."),
    "vault": ("cohortium.cli.vault", "Encrypted files: keys, put, get, share, verify."),
    "demo": ("cohortium.cli.demo", "Show it all: a hub, four hospitals, one joint analysis."),
}
"""Name of a group, the module whose ``app`` it is, and its line in ``cohortium --help``."""

MEANINGS = {
    "InputError": "wrong input",
    "PolicyRefusal": "refused by a contract or policy",
    "VerificationError": "a signature or proof that does not hold",
    "ProtocolError": "a message that cannot be understood",
    "PeerError": "somebody is not reachable",
    "ConflictError": "not possible in this state",
    "IntegrityFailure": "inconsistent records: stop and ask",
}
EXIT_CODES = "Exit codes: 0 done; " + "; ".join(
    f"{family.exit_code} {MEANINGS[name]}" for name, family in FAMILIES.items()
)


class LazyGroup(TyperGroup):
    """A group whose members are imported when they are used."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - click's signature
        """The groups in the order of `GROUPS`."""
        return list(GROUPS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - click's signature
        """What stands for a group in ``--help``; `resolve_command` puts the real one there."""
        if cmd_name not in GROUPS:
            return None
        return TyperCommand(cmd_name, help=GROUPS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The group that is about to run."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and load_group(str(command.name)), rest

    @property
    def commands(self) -> MutableMapping[str, Any]:
        """Every group, imported."""
        return {name: load_group(name) for name in GROUPS}

    @commands.setter
    def commands(self, value: MutableMapping[str, Any]) -> None:
        if value:
            raise RuntimeError("register a group in GROUPS")


def load_group(name: str) -> Any:
    """Import a group's module and build its command."""
    module, help_text = GROUPS[name]
    made = import_module(module).app
    # A group without the completion options, which belong to the root; `demo` is a single command.
    grouped = made.registered_callback or len(made.registered_commands) > 1
    command = typer.main.get_group(made) if grouped else typer.main.get_command(made)
    command.name = name
    command.help = command.help or help_text
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"cohortium {__version__}")
        raise typer.Exit


@app.callback()
def cohortium(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Run studies on the joint data of institutions while no record leaves its institution."""


def main() -> None:
    """The console script."""
    try:
        app()
    except BrokenPipeError:
        # The reader (head, less) went away; nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
