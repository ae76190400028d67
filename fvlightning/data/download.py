"""What the downloads of data sets share."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

_TIMEOUT = 30.0  # seconds without an answer


@contextmanager
def socket_timeout(seconds: float = _TIMEOUT) -> Iterator[None]:
    """Give up on a server that does not answer: torchvision sets no timeout, so a firewall could hang it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def one_line(error: Exception) -> str:
    """Return what `error` says, in one line without a full stop at the end; its type where it says nothing."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
