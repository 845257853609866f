"""Between the link's messages and our own types: states and errors."""

from __future__ import annotations

import math

import numpy as np

from cohortium.core.canonical import canonical, parse_json
from cohortium.core.rounds import Array, State
from cohortium.errors import CohortiumError, InputError, IntegrityFailure, PeerError, ProtocolError
from cohortium.link._generated import link_pb2 as pb
from cohortium.link.frames import varint
from cohortium.link.ports import LargeReply

DTYPES = frozenset({"|u1", "<i4", "<i8", "<u4", "<u8", "<f4", "<f8"})
"""The array types that a message may carry; all without references to Python objects."""

MAX_DIMENSIONS = 8
MAX_ARRAYS = 10_000
MAX_ERROR_BYTES = 64 * 1024


def put_state(state: State, request: pb.RoundRequest) -> None:
    """Write `state` into `request`."""
    request.state_json = state.values_bytes()
    for name, array in state.arrays.items():
        kind = array.dtype.newbyteorder("<").str
        if kind not in DTYPES:
            raise RuntimeError(f"an array of type {array.dtype} cannot be sent")
        data = np.ascontiguousarray(array, dtype=kind).tobytes()
        request.state_arrays.add(name=name, dtype=kind, shape=array.shape, data=data)


def _get_array(message: pb.Array) -> Array:
    kind, shape = message.dtype, tuple(message.shape)
    if kind not in DTYPES or len(shape) > MAX_DIMENSIONS:
        raise ProtocolError("malformed-message", "The state has an array of an unknown type.")
    dtype = np.dtype(kind)
    data = message.data
    if math.prod(shape) * dtype.itemsize != len(data) or any(size >= 2**31 for size in shape):
        raise ProtocolError("wrong-length", "An array of the state does not have its shape.")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def get_state(request: pb.RoundRequest) -> State:
    """The state of an untrusted request; its arrays are read-only.

    Raises:
        ProtocolError: ``malformed-message`` or ``wrong-length``; never anything else.
    """
    values = parse_json(request.state_json) if request.state_json else {}
    if not isinstance(values, dict):
        raise ProtocolError("malformed-message", "The state is not a JSON object.")
    if len(request.state_arrays) > MAX_ARRAYS:
        raise ProtocolError("malformed-message", "The state has too many arrays.")
    arrays: dict[str, Array] = {}
    for message in request.state_arrays:
        if message.name in arrays or message.name in values:
            raise ProtocolError("malformed-message", "Two parts of the state have one name.")
        arrays[message.name] = _get_array(message)
    return State(values, arrays)


def round_reply(
    run_id: str,
    number: int,
    masked: bytes | bytearray,
    *,
    following: pb.ShareReply | None = None,
    signature: bytes | None = None,
    agreed: bytes | None = None,
) -> LargeReply:
    """A site's masked contribution, encoded: ``masked`` is the last field of the last field.

    Args:
        following: The site's keys for the next round.
        signature: Of a committee member, over the round's parties.
        agreed: Bitmap of the survivors that the site has answered for.
    """
    reply = pb.RoundReply(
        run_id=run_id, round=number, next=following, signature=signature, agreed=agreed
    )
    inner = reply.SerializeToString()
    inner += _field_head(pb.RoundReply.MASKED_FIELD_NUMBER, len(masked))
    outer = _field_head(pb.Message.ROUND_REPLY_FIELD_NUMBER, len(inner) + len(masked))
    return LargeReply(outer + inner, masked)


def _field_head(number: int, size: int) -> bytes:
    """Tag and length of a length-delimited field (protobuf encoding, "Message Structure")."""
    return varint(number << 3 | 2) + varint(size)


def error_message(error: CohortiumError) -> pb.Message:
    """The reply that tells the peer about `error`."""
    wire = error.to_wire()
    try:
        data = canonical(wire)
    except InputError:  # the details hold something that is not JSON
        data = canonical({**wire, "details": {}})
    if len(data) > MAX_ERROR_BYTES:
        data = canonical({**wire, "message": error.message[:2000], "details": {}})
    return pb.Message(error=pb.Error(json=data))


def raise_if_error(message: pb.Message) -> None:
    """Raise what the peer reports.

    A broken store there is not our own: an `IntegrityFailure` arrives as PeerError.

    Raises:
        CohortiumError: The peer's error, or ProtocolError where it cannot be read.
    """
    if message.WhichOneof("body") != "error":
        return
    data = message.error.json
    wire = parse_json(data) if len(data) <= MAX_ERROR_BYTES else None
    if not isinstance(wire, dict):
        raise ProtocolError("malformed-message", "The peer sent an error that is not readable.")
    error = CohortiumError.from_wire(wire)
    if isinstance(error, IntegrityFailure):
        raise PeerError("peer-failed", error.message)
    raise error


def expect(reply: pb.Message, body: str) -> pb.Message:
    """`reply` if it carries `body`.

    Raises:
        CohortiumError: The peer's error.
        ProtocolError: ``unexpected-message``.
    """
    raise_if_error(reply)
    found = reply.WhichOneof("body")
    if found != body:
        raise ProtocolError("unexpected-message", f"Expected {body}, received {found}.")
    return reply
