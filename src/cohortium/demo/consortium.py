"""A hub and its nodes as processes of this machine, driven through the command line only.

The demonstration, the end-to-end tests and the benchmarks all start their consortium here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cohortium.errors import CohortiumError, InputError, PeerError

START_TIMEOUT_S = 60.0
AT_ONCE = max(4, os.cpu_count() or 1)
"""Commands that run at the same time; each waits for the hub part of its time."""


def free_port() -> int:
    """A TCP port that was free a moment ago on the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def together(work: Callable[[str], object], names: Iterable[str]) -> None:
    """Do `work` for every name, several at the same time; raises what the first of them raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(work, names))


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def _outcome(arguments: Sequence[str], returncode: int, stdout: bytes, stderr: bytes) -> Any:
    """What a command printed with ``--json``; raises the error that it reported."""
    if returncode:
        try:
            error = json.loads(stderr.splitlines()[-1])["error"]
        except (ValueError, KeyError, IndexError, TypeError):
            text = (stderr or stdout).decode(errors="replace")[-2000:]
            raise PeerError("peer-failed", f"cohortium {' '.join(arguments)}: {text}") from None
        raise CohortiumError.from_wire(error)
    return json.loads(stdout) if stdout.strip() else None


def _until_waiting(joining: subprocess.Popen[bytes]) -> bytes:
    """What ``node join`` said until it waits for the operator's approval, or ended."""
    said = b""
    for line in joining.stderr or ():
        said += line
        if line.startswith(b"Waiting"):
            break
    return said


@dataclass
class Service:
    """One long-running process, its log and how it was started (to start it again)."""

    command: list[str]
    log: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; its output goes to the log."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env
            )

    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def end(self, sig: int = signal.SIGTERM, timeout_s: float = 15.0) -> int | None:
        """Signal the process and wait; a second, stronger signal follows when it does not go."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout_s)
        return self.process.returncode


@dataclass
class Consortium:
    """A consortium below one folder.

    Args:
        root: Folder for everything; the hub in ``hub``, each site in ``nodes/<slug>``.
        name: The consortium's name.
        extra_env: Added to every process's environment.
    """

    root: Path
    name: str = "Demo consortium"
    extra_env: Mapping[str, str] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)

    @property
    def hub_dir(self) -> Path:
        """The hub's folder."""
        return self.root / "hub"

    def node_dir(self, site: str) -> Path:
        """The node's folder of an institution."""
        return self.root / "nodes" / _slug(site)

    def enclave_dir(self, name: str) -> Path:
        """The folder of an enclave."""
        return self.root / "enclaves" / _slug(name)

    @property
    def profile(self) -> Path:
        """The researcher's profile."""
        return self.root / "researcher" / "profile.json"

    def env(self) -> dict[str, str]:
        """The environment of every process started here."""
        return {
            **os.environ,
            "COHORTIUM_HUB_DIR": str(self.hub_dir),
            "COHORTIUM_PROFILE": str(self.profile),
            "NO_COLOR": "1",
            **self.extra_env,
        }

    def command(self, *arguments: str) -> list[str]:
        """The command line of ``cohortium ARGUMENTS`` in this Python."""
        return [sys.executable, "-m", "cohortium", *arguments]

    def cli(self, *arguments: str, timeout_s: float = 120.0) -> Any:
        """Run ``cohortium ARGUMENTS --json`` and return the parsed output.

        Raises:
            CohortiumError: The error that the command reported, rebuilt.
        """
        return _outcome(arguments, *self._run([*arguments, "--json"], timeout_s))

    def _run(self, arguments: Sequence[str], timeout_s: float) -> tuple[int, bytes, bytes]:
        """A command's exit code, output and error output."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            timeout=timeout_s,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def start_hub(self) -> None:
        """Make the consortium where it does not exist yet, and serve it."""
        if not self.hub_dir.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            ports = ["--rest-port", str(free_port()), "--link-port", str(free_port())]
            self.cli("hub", "init", str(self.hub_dir), "--name", self.name, *ports)
        self._serve("hub", self.command("hub", "serve", str(self.hub_dir)))
        self._wait_for("the hub", self._hub_answers)

    def _serve(self, name: str, command: list[str]) -> None:
        service = Service(command, self.root / f"{name.replace('/', '-')}.log", self.env())
        self.services[name] = service
        service.start()

    def _hub_answers(self) -> bool:
        address = self.hub_dir / "address.json"
        if not self.services["hub"].running():
            log = self.services["hub"].log.read_text(errors="replace")[-2000:]
            raise PeerError("peer-failed", f"The hub did not start: {log}")
        try:
            where = json.loads(address.read_text())
            with socket.create_connection(("127.0.0.1", where["rest_port"]), timeout=1):
                return True
        except (OSError, ValueError, KeyError):
            return False

    def _wait_for(self, what: str, ready: Any, timeout_s: float = START_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline:
                raise PeerError("peer-timeout", f"{what} was not ready within {timeout_s:.0f} s.")
            time.sleep(0.05)

    def add_site(self, site: str) -> None:
        """Invite an institution, join, approve it and serve its node."""
        invitation = self.cli("hub", "invite", site)["invitation"]
        arguments = ["node", "join", invitation, "--dir", str(self.node_dir(site))]
        self._join(site, arguments)
        self.serve_node(site)

    def add_enclave(self, name: str) -> None:
        """Invite an enclave, join, approve it, serve it and wait until it is connected."""
        invitation = self.cli("hub", "invite", name, "--enclave")["invitation"]
        self._join(name, ["enclave", "init", invitation, "--dir", str(self.enclave_dir(name))])
        folder = str(self.enclave_dir(name))
        self._serve(f"enclave/{name}", self.command("enclave", "serve", folder))

        def ready() -> bool:
            there = self.cli("hub", "enclaves")
            return name in {one["name"] for one in there if one.get("connected")}

        self._wait_for("the enclave's link", ready)

    def _join(self, name: str, arguments: Sequence[str]) -> None:
        """Run a command that joins, and approve `name` while it waits."""
        joining = subprocess.Popen(
            self.command(*arguments, "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            bufsize=0,  # what is not read as a line stays in the pipe for `communicate`
        )
        with joining:
            try:
                said = _until_waiting(joining)
                if joining.poll() is None:
                    self.cli("hub", "approve", name)
                stdout, stderr = joining.communicate(timeout=START_TIMEOUT_S)
            except BaseException:
                joining.kill()
                raise
        _outcome(arguments[:2], joining.returncode, stdout, said + stderr)

    def serve_node(self, site: str) -> None:
        """Serve a node that has joined."""
        self._serve(f"node/{site}", self.command("node", "serve", str(self.node_dir(site))))

    def add_sites(self, sites: Iterable[str]) -> None:
        """`add_site` for each and wait until all are connected."""
        names = list(sites)
        together(self.add_site, names)
        self.wait_connected(names)

    def wait_connected(self, sites: Iterable[str], timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the hub sees these institutions' links."""
        names = set(sites)

        def ready() -> bool:
            members = self.cli("hub", "members")
            return names <= {m["name"] for m in members if m.get("connected")}

        self._wait_for("the link of every site", ready, timeout_s)

    def add_researcher(self, name: str) -> None:
        """Enrol a researcher and write the profile that `cohortium.connect` and the CLI use."""
        invitation = self.cli("hub", "invite", name, "--researcher")["invitation"]
        self.cli("user", "create", invitation)

    def add_dataset(self, site: str, name: str, file: Path) -> Any:
        """Register and confirm a file at a site."""
        return self.cli("data", "add", name, str(file), "--dir", str(self.node_dir(site)), "--yes")

    def wait_published(self, sites: Iterable[str]) -> None:
        """Wait until the hub has a confirmed dictionary of each of these sites."""
        names = set(sites)

        def ready() -> bool:
            return names <= {m["name"] for m in self.cli("hub", "members") if m.get("datasets")}

        self._wait_for("every site's dictionary", ready)

    def wait_active(self, study: str) -> None:
        """Wait until every participant's signature on the study has reached the hub."""
        self.wait_status(study, "active")

    def lend(self, site: str, name: str, path: Path, kind: str = "dataset") -> Any:
        """Encrypt a file or folder at a site, to be lent to tasks."""
        node = str(self.node_dir(site))
        return self.cli("lend", "add", name, str(path), "--kind", kind, "--dir", node)

    def agree_on_tasks(self, study: str, text: str, fills: Mapping[str, tuple[str, str]]) -> None:
        """Draft a study of tasks, have its slots filled, propose it, and have all lenders sign.

        Args:
            text: Its YAML.
            fills: By slot, ``<task>/<input>``: the site, and the name of what it lends.
        """
        file = self.root / f"{study}.yaml"
        file.write_text(text)
        self.cli("study", "draft", str(file))

        def fill(slot: str) -> None:
            site, name = fills[slot]
            self._wait_drafted(site, study)
            self.cli("study", "assign", study, slot, name, "--dir", str(self.node_dir(site)))

        together(fill, fills)
        self._wait_for(
            "what fills the draft",
            lambda: not self.cli("study", "show", study, "--draft")["unfilled"],
        )
        self.cli("study", "propose", study)
        together(
            lambda site: self.sign(site, study), dict.fromkeys(site for site, _ in fills.values())
        )
        self.wait_active(study)

    def wait_status(self, study: str, status: str) -> None:
        """Wait until the hub knows a study in this state."""
        self._wait_for(
            f"a study that is {status}",
            lambda: self.cli("study", "show", study)["status"] == status,
        )

    def _wait_drafted(self, site: str, study: str) -> None:
        """Wait until a draft has arrived at a node."""

        def ready() -> bool:
            try:
                self.cli("study", "assign", study, "--dir", str(self.node_dir(site)))
            except InputError:
                return False
            return True

        self._wait_for("the draft", ready)

    def sign(self, site: str, study: str) -> Any:
        """The steward's yes to a study."""
        return self.cli("study", "sign", study, "--dir", str(self.node_dir(site)), "--yes")

    def kill(self, service: str) -> None:
        """SIGKILL ``hub`` or ``node/<site>``."""
        self.services[service].end(signal.SIGKILL)

    def restart(self, service: str) -> None:
        """Start a service that was ended again; does not wait."""
        self.services[service].start()

    def stop(self) -> None:
        """End every process: nodes and enclaves first, then the hub."""
        for name in sorted(self.services, key=lambda name: name == "hub"):
            self.services[name].end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
