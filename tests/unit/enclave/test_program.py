"""A contract's task and its program: what does not fit is said before anybody signs."""

from __future__ import annotations

from typing import Any

import pytest

from cohortium.contract.task import Argument, Code, InputSlot, OutputSlot, Task
from cohortium.enclave.program import of_task
from cohortium.errors import InputError

MANIFEST = b"""
command: ["{python}", "{code}/x.py"]
inputs: {left: dataset, start: model}
outputs: [table, report]
arguments: {rate: 0.1, epochs: null}
"""
FILES = {"task.yaml": MANIFEST, "x.py": b""}


def task(**changes: Any) -> Task:
    fields: dict[str, Any] = {
        "name": "train",
        "code": Code(name="x", content_digest="sha256:" + "a" * 64, owner="Ada"),
        "arguments": (Argument(name="epochs"),),
        "inputs": (
            InputSlot(name="left", kind="dataset", owners=("A",)),
            InputSlot(name="start", kind="model", owners=("B",)),
        ),
        "outputs": (OutputSlot(name="table", owners=("Ada",), recipients=("Ada",)),),
    }
    return Task(**(fields | changes))


def test_a_task_may_leave_out_outputs_and_arguments_that_have_a_value() -> None:
    assert of_task(task(), FILES).outputs == ("table", "report")


def _out(name: str) -> tuple[OutputSlot, ...]:
    return (OutputSlot(name=name, owners=("Ada",), recipients=("Ada",)),)


LEFT = InputSlot(name="left", kind="dataset", owners=("A",))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"outputs": _out("nosuch")}, "no output nosuch (it has report, table)"),
        ({"arguments": ()}, "needs the argument epochs"),
        ({"arguments": (Argument(name="epochs"), Argument(name="depth"))}, "no argument depth"),
        ({"inputs": (LEFT,)}, "needs the input start"),
        (
            {"inputs": (LEFT, InputSlot(name="start", kind="dataset", owners=("B",)))},
            "input start is a model, and a dataset in the contract",
        ),
        (
            {
                "inputs": (
                    LEFT,
                    InputSlot(name="start", kind="model", owners=("B",)),
                    InputSlot(name="more", kind="model", owners=("B",)),
                )
            },
            "no input more",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        of_task(task(**changes), FILES)
    assert caught.value.code == "bad-input"
    assert says in caught.value.message


def test_a_built_in_program_takes_tables_of_any_names() -> None:
    join = task(
        code=Code(name="builtin:join", content_digest="sha256:" + "a" * 64, owner="Ada"),
        arguments=(Argument(name="id", value="id"),),
        inputs=(LEFT, InputSlot(name="right", kind="dataset", owners=("B",))),
    )
    assert "table" in of_task(join, None).outputs
    with pytest.raises(InputError):
        of_task(join.model_copy(update={"inputs": (LEFT,)}), None)


def test_a_program_without_a_manifest_does_not_fit() -> None:
    with pytest.raises(InputError) as caught:
        of_task(task(), {"x.py": b""})
    assert caught.value.code == "not-found"


def test_no_output_is_called_log() -> None:
    with pytest.raises(ValueError, match="no output is called log"):
        task(outputs=_out("log"))
