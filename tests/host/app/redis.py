"""Just enough of Redis (redis.io/docs/latest/develop/reference/protocol-spec) for the test app and its worker."""

import os
import socket
from urllib.parse import urlparse


def ask(*words, timeout=5):
    """Sends one command; an integer, a string, None or a list of these."""
    url = urlparse(os.environ.get("REDIS_URL", ""))
    address = (url.hostname or os.environ["REDIS_HOST"], url.port or 6379)
    with socket.create_connection(address, timeout=timeout) as s, s.makefile("rb") as answer:
        parts = [str(word).encode() for word in words]
        s.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
        return read(answer)


def read(answer):
    line = answer.readline().rstrip().decode()
    kind, rest = line[:1], line[1:]
    if kind == ":":
        return int(rest)
    if kind == "$":
        return None if rest == "-1" else answer.read(int(rest) + 2)[:-2].decode()
    if kind == "*":
        return None if rest == "-1" else [read(answer) for _ in range(int(rest))]
    if kind == "+":
        return rest
    raise OSError(f"redis: {line}")
