"""States and errors in messages."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.core.rounds import State
from cohortium.errors import IntegrityFailure, PeerError, PolicyRefusal, ProtocolError
from cohortium.link._generated.link_pb2 import Ack, Array, Error, Message, RoundRequest
from cohortium.link.codec import (
    MAX_ARRAYS,
    error_message,
    expect,
    get_state,
    put_state,
    raise_if_error,
    round_reply,
)


def _through(state: State) -> State:
    request = RoundRequest()
    put_state(state, request)
    return get_state(RoundRequest.FromString(request.SerializeToString()))


def test_state_comes_back_with_its_digest() -> None:
    state = State(
        {"beta": [1.5, -2.0, 1e-300], "step": 3, "name": "年龄", "nested": {"a": None}},
        {
            "w": np.arange(12, dtype="<f4").reshape(3, 4),
            "n": np.array([[2**63 - 1]], dtype="<i8"),
            "none": np.zeros((0, 5)),
            "scalar": np.array(2.5),
            "bytes": np.array([0, 255], dtype=np.uint8),
        },
    )
    back = _through(state)
    assert dict(back.values) == dict(state.values)
    assert list(back.arrays) == list(state.arrays)
    for name, array in state.arrays.items():
        assert back.arrays[name].shape == array.shape
        assert back.arrays[name].dtype == array.dtype
        assert np.array_equal(back.arrays[name], array)
        assert not back.arrays[name].flags.writeable
    assert back.digest == state.digest


def test_other_layouts_in_memory_are_sent_as_plain_arrays() -> None:
    array = np.arange(12, dtype=">f8").reshape(3, 4).T[::2]
    back = _through(State({}, {"w": array})).arrays["w"]
    assert np.array_equal(back, array)
    assert back.dtype == np.dtype("<f8")


@pytest.mark.parametrize("dtype", [object, "U3", np.complex128, "M8[s]", np.bool_, np.float16])
def test_types_outside_the_list_are_not_sent(dtype: object) -> None:
    with pytest.raises(RuntimeError, match="cannot be sent"):
        put_state(State({}, {"w": np.zeros(2, dtype=dtype)}), RoundRequest())  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("array", "code"),
    [
        (Array(name="w", dtype="|O", shape=[1], data=bytes(8)), "malformed-message"),
        (Array(name="w", dtype="<f8,<f8", shape=[1], data=bytes(16)), "malformed-message"),
        (Array(name="w", dtype="", shape=[], data=b""), "malformed-message"),
        (Array(name="w", dtype="<f8", shape=[1] * 9, data=bytes(8)), "malformed-message"),
        (Array(name="x", dtype="<f8", shape=[1], data=bytes(8)), "malformed-message"),
        (Array(name="w", dtype="<f8", shape=[2], data=bytes(8)), "wrong-length"),
        (Array(name="w", dtype="<f8", shape=[1], data=bytes(9)), "wrong-length"),
        (Array(name="w", dtype="<f8", shape=[2**32, 2**32], data=b""), "wrong-length"),
        (Array(name="w", dtype="<f8", shape=[2**64 - 1, 0], data=b""), "wrong-length"),
    ],
)
def test_untrusted_arrays(array: Array, code: str) -> None:
    request = RoundRequest(state_json=b'{"x":1}', state_arrays=[array])
    with pytest.raises(ProtocolError) as caught:
        get_state(request)
    assert caught.value.code == code


def test_untrusted_states() -> None:
    double = Array(name="w", dtype="<f8", shape=[0])
    for request in (
        RoundRequest(state_json=b"[1]"),
        RoundRequest(state_json=b"{"),
        RoundRequest(state_json=b'{"a":NaN}'),
        RoundRequest(state_arrays=[double, double]),
        RoundRequest(
            state_arrays=[
                Array(name=f"w{i}", dtype="<f8", shape=[0]) for i in range(MAX_ARRAYS + 1)
            ]
        ),
    ):
        with pytest.raises(ProtocolError):
            get_state(request)
    assert dict(get_state(RoundRequest()).values) == {}


def test_error_travels_with_its_family_and_details() -> None:
    message = error_message(PolicyRefusal("run-limit", "Used up.", limit=3))
    with pytest.raises(PolicyRefusal, match="Used up") as caught:
        raise_if_error(message)
    assert caught.value.details == {"limit": 3}


def test_details_that_are_not_json_are_left_out() -> None:
    with pytest.raises(PolicyRefusal) as caught:
        raise_if_error(error_message(PolicyRefusal("run-limit", "Used up.", limit=object())))
    assert caught.value.details == {}


def test_huge_error_is_cut() -> None:
    message = error_message(PolicyRefusal("run-limit", "x" * 100_000))
    with pytest.raises(PolicyRefusal) as caught:
        raise_if_error(message)
    assert len(caught.value.message) == 2000


def test_integrity_failure_of_a_peer_is_not_ours() -> None:
    with pytest.raises(PeerError) as caught:
        raise_if_error(error_message(IntegrityFailure("broken-store", "Stop.")))
    assert caught.value.code == "peer-failed"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"code":"x"}', b"1" * 70_000])
def test_unreadable_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        raise_if_error(Message(error=Error(json=data)))


@pytest.mark.parametrize("masked", [b"", b"masked", bytes(100_000)])
def test_a_round_reply_is_encoded_as_protobuf_does(masked: bytes) -> None:
    reply = round_reply("a" * 32, 300, masked)
    message = Message()
    message.round_reply.run_id = "a" * 32
    message.round_reply.round = 300
    message.round_reply.masked = masked
    assert reply.message() == message
    if masked:
        assert reply.head + reply.tail == message.SerializeToString()


def test_expect() -> None:
    reply = round_reply("a" * 32, 2, b"masked").message()
    assert expect(reply, "round_reply").round_reply.round == 2
    with pytest.raises(ProtocolError, match="Expected welcome, received round_reply"):
        expect(reply, "welcome")
    with pytest.raises(ProtocolError, match="received None"):
        expect(Message(), "ack")
    with pytest.raises(PolicyRefusal):
        expect(error_message(PolicyRefusal("run-limit", "Used up.")), "round_reply")
    raise_if_error(Message(ack=Ack()))
