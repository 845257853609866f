"""``cohortium enclave collateral``: importing and listing what quotes are judged by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.dcap import FMSPC, Intel
from typer.testing import CliRunner

from cohortium.cli.enclave import app
from cohortium.enclave.attestation.collateral import Collateral, CollateralStore
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.errors import VerificationError

VECTORS = Path(__file__).parents[2] / "vectors/attestation"


def call(*arguments: str | Path, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["collateral", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


def test_a_folder_of_collateral_is_imported_and_listed(tmp_path: Path) -> None:
    given, kept = tmp_path / "given", tmp_path / "kept"
    given.mkdir()
    for name in ("sgx", "tdx"):
        source = VECTORS / f"{name}_collateral.json"
        (given / f"{name}.json").write_bytes(source.read_bytes())
    text = call("import", given, "--folder", kept)
    assert "expired" in text
    assert "fetch a newer one" in text
    found = json.loads(call("list", "--folder", kept, "--json"))
    assert [(one["tee"], one["fmspc"]) for one in found] == [
        ("sgx", "00a067110000"),
        ("tdx", "b0c06f000000"),
    ]
    assert found[1]["expires_at"] == "2025-07-19T10:00:35Z"
    assert found[1]["state"] == "expired"
    original = Collateral.parse((VECTORS / "tdx_collateral.json").read_bytes())
    assert found[1]["digest"] == original.digest
    assert CollateralStore(kept).find("tdx", "b0c06f000000").fields == original.fields


def test_older_collateral_does_not_replace_newer(tmp_path: Path) -> None:
    intel = Intel("SGX")
    new = intel.collateral()
    intel.tcb["tcbEvaluationDataNumber"] = intel.identity["tcbEvaluationDataNumber"] = 16
    old = intel.collateral()
    store = CollateralStore(tmp_path)
    assert store.add(new)[1]
    assert not store.add(old)[1]
    assert store.find("sgx", FMSPC).tcb_evaluation == 17
    file = tmp_path / "old.txt"
    file.write_bytes(old)
    assert "older" in call("import", file, "--folder", tmp_path)


def test_what_is_no_collateral_is_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    bad, good, kept = tmp_path / "bad.json", VECTORS / "sgx_collateral.json", tmp_path / "kept"
    bad.write_text("{}")
    assert "bad-evidence" in call("import", good, bad, "--folder", kept, status=4)
    assert "There is none" in call("list", "--folder", kept)
    empty = tmp_path / "empty"
    empty.mkdir()
    call("import", empty, "--folder", kept, status=2)


def test_platforms_without_collateral_are_refused(tmp_path: Path) -> None:
    for fmspc in ("00" * 6, "../../etc/x"):
        with pytest.raises(VerificationError) as caught:
            CollateralStore(tmp_path).find("sgx", fmspc)
        assert reason_of(caught.value) is Reason.COLLATERAL_MISSING
