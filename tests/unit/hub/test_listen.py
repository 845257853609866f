from __future__ import annotations

import socket

import pytest

from cohortium.errors import InputError
from cohortium.hub.main import _listen


def test_the_earlier_port_is_taken_again_while_it_is_free() -> None:
    with _listen("127.0.0.1", 0, None) as first:
        port = first.getsockname()[1]
        with _listen("127.0.0.1", 0, port) as second:
            assert second.getsockname()[1] not in {0, port}
        with pytest.raises(InputError) as caught:
            _listen("127.0.0.1", port, None)
        assert caught.value.code == "bad-config"
    with _listen("127.0.0.1", 0, port) as again:
        assert again.getsockname()[1] == port


def test_answers_do_not_wait_for_acknowledgements() -> None:
    with _listen("127.0.0.1", 0, None) as listener:
        # asyncio sets TCP_NODELAY only on sockets that name their protocol.
        assert listener.proto == socket.IPPROTO_TCP
