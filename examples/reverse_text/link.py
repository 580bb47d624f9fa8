"""Messages between processes of one machine: some JSON and, behind it, bytes. Nothing of it can run code where it arrives."""

import json
import time
from multiprocessing.connection import Client

# More than any weights here have.
_MOST_BYTES = 1 << 28


def send(connection, message, data=b""):
    connection.send_bytes(json.dumps({**message, "bytes": len(data)}).encode())
    if data:
        connection.send_bytes(data)


def receive(connection):
    """A message and its bytes; EOFError or ConnectionError if the other process is gone."""
    try:
        message = json.loads(connection.recv_bytes(_MOST_BYTES))
        return message, connection.recv_bytes(_MOST_BYTES) if message["bytes"] else b""
    except OSError as error:
        # It died within a message.
        raise ConnectionError(str(error)) from error


def connect(address, seconds, hint=None):
    """Connects to a process that may not be there yet: it is waited for, and the hint says so."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return Client(address)
        except (ConnectionError, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
            if hint is not None:
                print(hint, flush=True)
                hint = None
            time.sleep(0.05)


def address_of(text):
    """HOST:PORT as the pair that sockets take."""
    host, _, port = text.rpartition(":")
    return host, int(port)
