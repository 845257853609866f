"""The short verifier, which knows docs/evidence.md only, and ours come to the same verdict."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.audit import honest
from tests.support.audit_faults import FAULTS, Fault, released, said_of_a_stranger, usurped
from tests.support.audit_tasks import TaskStory
from tests.support.source import ROOT

from cohortium.core.canonical import canonical

SCRIPT = ROOT / "examples" / "verify_bundle" / "verify_bundle.py"
ELSEWHERE = {
    "a field is left out": "releases",
    "an entry tells a fact of no known kind": "entries",
    "a run succeeded without a result": "releases",
    "keys were released to a run of no task": "statements",
    "the receipts are not in order": "releases",
}
"""Where the short verifier finds in another step what ours finds earlier."""


def _load() -> Any:
    spec = spec_from_file_location("verify_bundle", SCRIPT)
    if spec is None or spec.loader is None:
        raise RuntimeError("the example is not there")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SHORT = _load()


def failing_step(data: bytes, results: Mapping[str, bytes]) -> str | None:
    """The step in which the short verifier refuses a bundle; None where it does not."""
    steps = [""]
    try:
        values = {run: json.loads(found) for run, found in results.items()}
        steps.extend(SHORT.verify(data, values))
    except (SHORT.InvalidSignature, *SHORT.HOSTILE):
        return steps[-1]
    return None


def test_it_has_200_lines_and_nothing_of_ours() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    packages = [
        line.split()[1] for line in text.splitlines() if line.startswith(("from", "import"))
    ]
    foreign = [name for name in packages if name.split(".")[0] not in sys.stdlib_module_names]
    assert {name.split(".")[0] for name in foreign} == {"cryptography"}


@pytest.mark.parametrize("coverage", ["study", "log"])
def test_it_accepts_an_honest_bundle(coverage: str) -> None:
    story = honest()
    assert failing_step(canonical(story.story.seal(coverage)), released(story)) is None


def test_it_knows_institutions_that_were_replaced_and_words_of_nobody() -> None:
    assert failing_step(canonical(usurped("after")), {}) is None
    story = honest(closed=False)
    said_of_a_stranger(story, "revoke", "revoked", here=False)
    story.story.run(story.second, 9)
    assert failing_step(canonical(story.story.seal()), {}) is None


def test_it_refuses_what_it_does_not_judge() -> None:
    story = TaskStory()
    story.trained(story.begin())
    with pytest.raises(ValueError, match="runs of tasks are not judged here"):
        list(SHORT.verify(canonical(story.seal()), {}))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.step}: {fault.name}")
def test_it_agrees_on_what_is_false(fault: Fault) -> None:
    story = honest()
    found = failing_step(fault.data(story), fault.results(story))
    assert found == (ELSEWHERE.get(fault.name, fault.step) if fault.short else None)


def test_it_sees_most_of_the_false_facts() -> None:
    """What it leaves out is listed in docs/evidence.md."""
    blind = {fault.step for fault in FAULTS if not fault.short}
    assert blind == {
        *("format", "log", "entries", "contract", "parties"),
        *("quorum", "requests", "sites", "rounds", "keys", "outcomes"),
    }
    assert sum(fault.short for fault in FAULTS) >= 80


def test_as_a_command_it_names_the_failing_step(tmp_path: Path) -> None:
    story = honest()
    run_id, found = next(iter(released(story).items()))
    bundle, result = tmp_path / "lung.json", tmp_path / "result.json"
    bundle.write_bytes(canonical(story.story.seal()))
    result.write_text(json.dumps({"run": {"id": run_id}, "result": json.loads(found)}, indent=2))
    command = [sys.executable, str(SCRIPT), str(bundle), str(result)]
    good = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (good.returncode, good.stdout.split()[-1], good.stderr) == (0, "results", "")
    result.write_text(json.dumps({"run": {"id": run_id}, "result": {"n": 1}}))
    bad = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert bad.returncode == 1
    assert bad.stderr.startswith(f"results: the result of {run_id} is another")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_its_canonical_form_is_that_of_rfc_8785(value: Any) -> None:
    wanted = canonical(value)
    assert SHORT.canonical(value).encode() == wanted
    assert SHORT.canonical(SHORT.parse(wanted)).encode() == wanted
