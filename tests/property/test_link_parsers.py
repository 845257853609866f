"""The link's parsers of received bytes raise nothing but ProtocolError, and lose nothing."""

from __future__ import annotations

import contextlib

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cohortium.core.rounds import State
from cohortium.errors import CohortiumError, ProtocolError
from cohortium.link._generated.link_pb2 import Array, Error, Frame, Message, RoundRequest
from cohortium.link.codec import DTYPES, get_state, put_state, raise_if_error
from cohortium.link.frames import FRAME_BYTES, Joiner, cut, parse_frame
from cohortium.link.session import parse_message

frames = st.builds(
    Frame, message_id=st.integers(0, 2**64 - 1), last=st.booleans(), data=st.binary(max_size=50)
).map(lambda frame: frame.SerializeToString())


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Valid bytes with a few of them changed, cut or added."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(data)))
        match draw(st.sampled_from("cxa")):
            case "c":
                del data[position:]
            case "x" if position < len(data):
                data[position] = draw(st.integers(0, 255))
            case _:
                data[position:position] = draw(st.binary(max_size=4))
    return bytes(data)


@given(st.one_of(st.binary(max_size=100), frames, damaged(frames)))
def test_frame_parser_is_protobufs_or_stricter(raw: bytes) -> None:
    try:
        message_id, last, data = parse_frame(raw)
    except ProtocolError:
        return
    frame = Frame.FromString(raw)
    assert (frame.message_id, frame.last, frame.data) == (message_id, last, bytes(data))
    assert frame.SerializeToString() == raw


@given(st.integers(1, 2**64 - 1), st.binary(min_size=1, max_size=100))
def test_frames_are_what_protobuf_writes(message_id: int, body: bytes) -> None:
    assert list(cut(message_id, b"", body)) == [
        Frame(message_id=message_id, last=True, data=body).SerializeToString()
    ]


@given(st.lists(st.one_of(st.binary(max_size=60), frames, damaged(frames)), max_size=20))
def test_joiner_holds_no_more_than_it_may(received: list[bytes]) -> None:
    joiner = Joiner(max_message_bytes=200)
    for raw in received:
        with contextlib.suppress(ProtocolError):
            joiner.feed(raw)
        held = sum(len(part) for parts in joiner._unfinished.values() for part in parts)
        assert held == joiner._held_bytes <= 200


@given(
    st.lists(st.integers(0, 3 * FRAME_BYTES), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_any_interleaving_joins(sizes: list[int], order: object) -> None:
    bodies = {number: bytes([number]) * size for number, size in enumerate(sizes, 1)}
    queues = [list(cut(number, b"id", body)) for number, body in bodies.items()]
    joiner, joined = Joiner(), []
    while any(queues):
        queue = order.choice([queue for queue in queues if queue])  # type: ignore[attr-defined]
        whole = joiner.feed(queue.pop(0))
        if whole is not None:
            joined.append(bytes(whole))
    assert sorted(joined) == sorted(b"id" + body for body in bodies.values())
    assert joiner._held_bytes == 0


@given(st.binary(max_size=200))
def test_message_parser(data: bytes) -> None:
    try:
        message = parse_message(data)
    except ProtocolError:
        try:
            Message.FromString(data)
        except DecodeError:
            return
        raise
    with contextlib.suppress(CohortiumError):
        raise_if_error(message)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_error_parser(data: bytes) -> None:
    try:
        raise_if_error(Message(error=Error(json=data)))
    except CohortiumError:
        return
    raise AssertionError("an error must raise")


wire_arrays = st.builds(
    Array,
    name=st.text(max_size=3),
    dtype=st.one_of(st.sampled_from(sorted(DTYPES)), st.text(max_size=6)),
    shape=st.lists(st.one_of(st.integers(0, 4), st.integers(0, 2**64 - 1)), max_size=10),
    data=st.binary(max_size=64),
)


@given(
    st.builds(
        RoundRequest,
        state_json=st.one_of(st.just(b"{}"), st.just(b""), st.binary(max_size=30)),
        state_arrays=st.lists(wire_arrays, max_size=4),
    )
)
def test_state_parser(request: RoundRequest) -> None:
    try:
        state = get_state(request)
    except ProtocolError:
        return
    for array in state.arrays.values():
        assert array.dtype.str in DTYPES


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**53, 2**53 - 1)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), json_values),
    st.dictionaries(
        st.sampled_from(["x", "y"]),
        hnp.arrays(
            st.sampled_from(["<f8", "<i8", "<f4", "<u8", "|u1"]),
            hnp.array_shapes(min_dims=0, min_side=0),
        ),
    ),
)
def test_state_survives_the_wire(values: dict[str, object], arrays: dict[str, np.ndarray]) -> None:
    state = State(values, arrays)
    request = RoundRequest()
    put_state(state, request)
    assert get_state(RoundRequest.FromString(request.SerializeToString())).digest == state.digest
