import socket

from nbdurable.apart import listen


def test_what_is_accepted_sends_at_once():
    """Else the body of an answer waits for the ACK of its head, which clients delay by 40 ms."""
    with (
        listen("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
