"""What is measured of a task, and what of its host is missing; no TPM is needed."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.support.tasks import job

from cohortium.core.canonical import digest_bytes
from cohortium.enclave import tpm
from cohortium.enclave.attestation.tpm_events import extend
from cohortium.enclave.task_record import content_digest, contract_record, task_record
from cohortium.enclave.tpm_host import _led_to
from cohortium.errors import InputError, PolicyRefusal

CODE = "sha256:" + "a" * 64


class Held:
    """Files that are on no disk."""

    def __init__(self, **content: bytes) -> None:
        self.content = content

    def files(self) -> Iterable[tuple[str, int]]:
        return [(name, len(data)) for name, data in self.content.items()]

    def chunks(self, path: str) -> Iterable[bytes]:
        return [self.content[path][:1], self.content[path][1:]]


def test_contents_are_named_alike_wherever_they_are(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_bytes(b"two")
    (tmp_path / "folder" / "a").write_bytes(b"one")
    assert content_digest(tmp_path / "folder") == content_digest(Held(a=b"one", b=b"two"))
    assert content_digest(tmp_path / "folder") != content_digest(Held(a=b"two", b=b"one"))
    alone = content_digest(tmp_path / "folder" / "a")
    assert alone == content_digest(Held(**{"": b"one"})) == digest_bytes(b"one")
    with pytest.raises(InputError, match="cannot be measured"):
        content_digest(tmp_path / "none")


def test_every_part_of_a_job_is_in_its_record(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("lent")
    made = job(tmp_path, "print(1)", {"data": tmp_path / "data"})
    record = task_record(made)
    assert len(record) == 3
    assert task_record(replace(made, argv=(*made.argv, "x")))[1] != record[1]
    (tmp_path / "data").write_text("other")
    assert task_record(made)[2] != record[2]
    (made.code / "main.py").write_text("print(2)")
    assert task_record(made)[0] != record[0]


def test_a_contracts_task_is_named_by_the_contract_alone(tmp_path: Path) -> None:
    record = contract_record(CODE, {"epochs": 3, "rate": 0.5}, {"images": CODE})
    made = job(tmp_path, "print(1)", {"images": tmp_path / "nowhere"})
    assert task_record(replace(made, record=record)) == record
    others: list[Any] = [
        contract_record("sha256:" + "b" * 64, {"epochs": 3, "rate": 0.5}, {"images": CODE}),
        contract_record(CODE, {"epochs": "3", "rate": 0.5}, {"images": CODE}),
        contract_record(CODE, {"epochs": 3}, {"images": CODE}),
        contract_record(CODE, {"epochs": 3, "rate": 0.5}, {"other": CODE}),
        contract_record(CODE, {"epochs": 3, "rate": 0.5}, {}),
    ]
    assert record not in others
    assert len(set(others)) == len(others)


def test_of_a_log_counts_what_leads_to_the_register() -> None:
    digests = [sha256(bytes([index])).digest() for index in range(4)]
    base = secrets.token_bytes(32)
    values = [base]
    for digest in digests:
        values.append(extend(values[-1], digest))
    for count, value in enumerate(values):
        assert _led_to(value, base, digests) == digests[:count]
    for other in (bytes(32), extend(base, digests[1])):
        with pytest.raises(PolicyRefusal, match="something else was measured"):
            _led_to(other, base, digests)


def test_without_the_tpms_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", none)
    assert "pip install 'cohortium[tpm]'" in tpm.missing()[0]
    with pytest.raises(InputError) as caught:
        tpm.Tpm()
    assert caught.value.code == "missing-extra"
