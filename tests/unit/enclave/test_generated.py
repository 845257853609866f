"""What is generated for SGX runtimes: the expected files, the same each time, and no secret.

The expected files are in tests/vectors/executors; ``COHORTIUM_WRITE_VECTORS=1`` writes them anew.
"""

from __future__ import annotations

import json
import os
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cohortium.contract.task import MIB, Limits
from cohortium.enclave.executors.generated import Generated
from cohortium.enclave.executors.gramine import MANIFEST, Gramine
from cohortium.enclave.executors.occlum import IMAGE, SETTINGS, Occlum
from cohortium.enclave.executors.scone import SESSION, Scone
from cohortium.enclave.gramine_manifest import findings, to_toml
from cohortium.enclave.inside import gramine as device
from cohortium.enclave.job import Job
from cohortium.errors import InputError, PolicyRefusal

VECTORS = Path(__file__).parents[2] / "vectors"
ALL: tuple[type[Generated], ...] = (Gramine, Occlum, Scone)
SECRET = "patient-4711"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A program, a Python of three files, and an input; below a path that sorts the same."""
    with tempfile.TemporaryDirectory(prefix="cohortium-", dir="/tmp") as name:
        top = Path(name)
        for path, text in {
            "code/main.py": "print('hello')\n",
            "code/deep/model.py": "weights = 3\n",
            "code/__pycache__/main.pyc": "not measured",
            "env/bin/python": "an interpreter\n",
            "env/lib/python3.11/json.py": "# json\n",
            "env/lib/python3.11/site-packages/numpy.py": "# numpy\n",
            "scans/one.png": SECRET,
        }.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(text)
        yield top


def _job(folder: Path, **changed: Any) -> Job:
    values: dict[str, Any] = {
        "argv": ("{python}", "{code}/main.py", "{inputs.scans}", "{outputs.model}", "--epochs=3"),
        "code": folder / "code",
        "inputs": {"scans": folder / "scans"},
        "outputs": ("model",),
        "environment": {"OMP_NUM_THREADS": "4"},
        "limits": Limits(memory_bytes=2048 * MIB, processes=8),
        "readable": (folder / "env",),
    }
    return Job(**(values | changed))


@pytest.mark.parametrize("of", ALL)
def test_the_files_are_the_expected_ones(of: type[Generated], folder: Path) -> None:
    for name, content in of().prepare(_job(folder)).files.items():
        found = content.decode().replace(str(folder), "@folder")
        expected = VECTORS / "executors" / of.name / name
        if os.environ.get("COHORTIUM_WRITE_VECTORS"):
            expected.parent.mkdir(parents=True, exist_ok=True)
            expected.write_text(found)
        assert found == expected.read_text()


_WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0{}"), max_size=12)
_NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)


@pytest.mark.parametrize("of", ALL)
@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(_WORDS, max_size=4),
    environment=st.dictionaries(_NAMES, _WORDS, max_size=4),
    slots=st.lists(st.sampled_from(["a", "b-c", "d_1", "zz"]), unique=True),
    memory=st.integers(16 * MIB, 2**40),
    processes=st.integers(1, 5000),
)
def test_any_job_gives_the_same_files_each_time_and_no_secret(
    of: type[Generated],
    folder: Path,
    words: list[str],
    environment: dict[str, str],
    slots: list[str],
    memory: int,
    processes: int,
) -> None:
    def files(turned: bool) -> dict[str, bytes] | None:
        order = slots[::-1] if turned else slots
        names = list(environment)[::-1] if turned else list(environment)
        made = _job(
            folder,
            argv=("{python}", *words),
            inputs=dict.fromkeys(order, folder / "scans"),
            environment={name: environment[name] for name in names},
            limits=Limits(memory_bytes=memory, processes=processes),
        )
        try:
            return dict(of().prepare(made).files)
        except InputError:
            return None

    first = files(False)
    assert files(True) == first
    for content in (first or {}).values():
        assert SECRET.encode() not in content
        assert b"not measured" not in content
    if of is Gramine and first is not None:
        manifest = tomllib.loads(first[MANIFEST].decode())
        assert manifest["loader"]["argv"][1:] == words
        assert manifest["loader"]["env"].items() >= (environment.items() - {"LD_LIBRARY_PATH"})


@pytest.mark.parametrize("of", ALL)
def test_what_keeps_it_from_running_is_told(
    of: type[Generated], folder: Path, tmp_path: Path
) -> None:
    place = of(tmp_path)
    why = "; ".join(place.missing())
    assert "/dev/sgx_enclave, /dev/sgx_provision not there" in why
    assert "not run on hardware" in why
    assert place.tools[0] in why
    with pytest.raises(PolicyRefusal, match="not run on hardware"):
        place.start(place.prepare(_job(folder)))


@pytest.mark.parametrize("of", ALL)
@pytest.mark.parametrize(
    "changed",
    [
        {"argv": ("/bin/sh", "-c", "true")},
        {"argv": ("{python}", "a\0b")},
        {"argv": ("{python}", "\ud800")},
        {"environment": {"A=B": "c"}},
        {"environment": {"A": "\0"}},
        {"outputs": ("../out",)},
    ],
)
def test_what_no_settings_can_hold_is_refused(
    of: type[Generated], folder: Path, changed: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        of().prepare(_job(folder, **changed))


def test_a_changed_program_changes_what_is_measured(folder: Path) -> None:
    before = [of().prepare(_job(folder)).files for of in ALL]
    (folder / "code" / "added.py").write_text("print('more')\n")
    after = [of().prepare(_job(folder)).files for of in ALL]
    (folder / "code" / "added.py").unlink()
    assert [one == other for one, other in zip(before, after, strict=True)] == [False] * 3


# Gramine


def _manifest(folder: Path) -> dict[str, Any]:
    return tomllib.loads(Gramine().prepare(_job(folder)).files[MANIFEST].decode())


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("sgx.debug", True, "sgx.debug may not be"),
        ("sgx.debug", 0, "sgx.debug may not be"),
        ("sgx.remote_attestation", "none", "remote_attestation"),
        ("sgx.file_check_policy", "allow_all_but_log", "file_check_policy"),
        ("sgx.allowed_files", ["file:/data"], "sgx.allowed_files is not allowed"),
        ("sgx.insecure__rpc_thread_num", 1, "is not allowed"),
        ("sgx.enclave_size", "3000M", "power of two"),
        ("sgx.max_threads", 1, "below 4"),
        ("fs.insecure__keys.default", "00" * 16, "is not allowed"),
        ("loader.insecure__use_host_env", True, "is not allowed"),
        ("loader.log_level", "trace", "log_level may not be"),
        ("loader.env.HOME", 3, "loader.env.HOME may not be"),
        ("libos.entrypoint", "python", "no absolute path"),
        ("sys.debug__mock_syscalls", [], "is not allowed"),
    ],
)
def test_a_manifest_that_opens_a_hole_is_refused(
    folder: Path, path: str, value: Any, why: str
) -> None:
    manifest = _manifest(folder)
    *above, last = path.split(".")
    place = manifest
    for key in above:
        place = place.setdefault(key, {})
    place[last] = value
    assert why in "; ".join(findings(to_toml(manifest).encode()))


@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ({"type": "chroot", "path": "/data", "uri": "file:/data"}, "nothing below file:/data"),
        ({"type": "untrusted_shm", "path": "/dev/shm", "uri": "dev:/dev/shm"}, "is not allowed"),
        ({"type": "tmpfs", "path": "tmp"}, "no absolute path"),
        (
            {"type": "encrypted", "path": "/x", "uri": "file:inputs/scans/a", "key_name": "x"},
            "overlap",
        ),
        (
            {"type": "encrypted", "path": "/x", "uri": "file:x", "key_name": "_sgx_mrsigner"},
            "not one that attestation sets",
        ),
        ({"type": "encrypted", "path": "/x", "uri": "file:x"}, "is not allowed"),
    ],
)
def test_a_mount_that_nobody_protects_is_refused(
    folder: Path, mount: dict[str, str], why: str
) -> None:
    manifest = _manifest(folder)
    manifest["fs"]["mounts"].append(mount)
    assert why in "; ".join(findings(to_toml(manifest).encode()))


@pytest.mark.parametrize("wrong", [1, {}, {"type": 3}, {"type": "chroot", "path": 1, "uri": 2}])
def test_a_mount_that_is_none_is_a_finding(folder: Path, wrong: Any) -> None:
    manifest = _manifest(folder)
    manifest["fs"]["mounts"] = [wrong]
    assert "is not allowed" in "; ".join(findings(to_toml(manifest).encode()))


def test_a_file_without_a_digest_is_refused(folder: Path) -> None:
    for wrong in (
        3,
        {"uri": 3, "sha256": "00"},
        "file:/etc/hosts",
        {"uri": "file:/etc/hosts", "sha256": "00"},
    ):
        manifest = _manifest(folder)
        manifest["sgx"]["trusted_files"].append(wrong)
        assert "has no digest" in "; ".join(findings(to_toml(manifest).encode()))


@pytest.mark.parametrize("text", [b"", b"a = ", b"\xff", b"sgx = 3", b"fs.mounts = [1]"])
def test_what_is_no_manifest_has_findings(text: bytes) -> None:
    assert findings(text)


def test_gramine_s_own_schema_takes_it(folder: Path) -> None:
    schema = pytest.importorskip("graminelibos.manifest_check")
    schema.GramineManifestSchema(_manifest(folder))


def test_a_quote_is_read_from_the_device(tmp_path: Path) -> None:
    recorded = (VECTORS / "attestation" / "sgx_quote.bin").read_bytes()
    asked = recorded[368:432]
    (tmp_path / "attestation_type").write_text("dcap")
    (tmp_path / "quote").write_bytes(recorded)
    assert device.quote(asked, tmp_path) == recorded
    assert (tmp_path / "user_report_data").read_bytes() == asked
    with pytest.raises(OSError, match="other data"):
        device.quote(bytes(64), tmp_path)
    (tmp_path / "attestation_type").write_text("none")
    with pytest.raises(OSError, match="not dcap"):
        device.quote(asked, tmp_path)
    with pytest.raises(ValueError, match="64 bytes"):
        device.quote(b"short", tmp_path)


def test_a_key_is_set_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    device.set_key("cohortium_input_scans", bytes(16), tmp_path)
    assert (tmp_path / "keys" / "cohortium_input_scans").read_bytes() == bytes(16)
    with pytest.raises(ValueError, match="16 bytes"):
        device.set_key("cohortium_input_scans", bytes(32), tmp_path)


# Occlum and SCONE


def test_occlum_s_enclave_is_for_production_and_sees_no_folder_of_the_host(folder: Path) -> None:
    files = Occlum().prepare(_job(folder)).files
    found = json.loads(files[SETTINGS])
    assert found["metadata"]["debuggable"] is False
    assert found["env"]["untrusted"] == []
    assert "hostfs" not in files[SETTINGS].decode()
    image = YAML(typ="safe", pure=True).load(files[IMAGE])
    copied = {
        f"{target['target']}/{file.get('rename', file['name'])}": file["hash"]
        for target in image["targets"]
        for source in target.get("copy", [])
        for file in source["files"]
    }
    assert set(copied) >= {"/task/code/main.py", "/task/code/deep/model.py"}
    assert all(len(one) == 64 and one == one.upper() for one in copied.values())


def test_scone_s_session_can_be_updated_by_nobody_and_tolerates_nothing(folder: Path) -> None:
    text = Scone().prepare(_job(folder)).files[SESSION]
    found = YAML(typ="safe", pure=True).load(text)
    assert found["access_policy"]["update"] == ["NONE"]
    assert found["security"]["attestation"] == {"tolerate": [], "ignore_advisories": []}
    assert found["services"][0]["environment"]["SCONE_MODE"] == "hw"


@pytest.mark.parametrize(
    "changed",
    [
        {"argv": ("{python}", "two words")},
        {"argv": ("{python}", "$$SCONE::key$$")},
        {"environment": {"KEY": "$$SCONE::key$$"}},
    ],
)
def test_scone_fills_nothing_in(folder: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Scone().prepare(_job(folder, **changed))
