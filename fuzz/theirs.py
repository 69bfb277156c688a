"""What h11, a strict parser that shares nothing with ours, makes of the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import h11


@dataclass(slots=True)
class Theirs:
    """What h11 read: as `ours.Reading`. `trailers`: it was refused for what is in the trailer section."""

    method: bytes = b""
    target: bytes = b""
    version: bytes = b""
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    payload: bytes = b""
    rest: bytes = b""
    interim: int = 0
    head: bool = False
    complete: bool = False
    refused: str = ""

    def get_all(self, name: bytes) -> list[bytes]:
        """Return the values of all fields of that name."""
        return [value for known, value in self.headers if known == name]


_REQUEST = {
    method: h11.Request(
        method=method, target="/", headers=[("Host", "a"), ("Upgrade", "x"), ("Connection", "upgrade")]
    )
    for method in ("GET", "HEAD")
}


def read_request(data: bytes) -> Theirs:
    """Return what a server on h11 reads."""
    return _read(h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20), data)


def read_response(data: bytes, method: bytes) -> Theirs:
    """Return what a client on h11 reads that sent a request by `method`, GET or HEAD."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    connection.send(_REQUEST[method.decode()])
    connection.send(h11.EndOfMessage())
    return _read(connection, data)


def _read(connection: h11.Connection, data: bytes) -> Theirs:
    found = Theirs()
    if not data:
        return found
    connection.receive_data(data)
    payload = []
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                break
            if isinstance(event, h11.Request):
                found.head = True
                found.method = bytes(event.method)
                found.target = bytes(event.target)
                found.version = bytes(event.http_version)
                found.headers = [(bytes(name), bytes(value)) for name, value in event.headers]
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                found.head = True
                found.status = event.status_code
                found.version = bytes(event.http_version)
                found.headers = [(bytes(name), bytes(value)) for name, value in event.headers]
                if event.status_code == 101:
                    found.complete = True
                    break
                if event.status_code < 200:
                    found.head = False
                    found.interim += 1
            elif isinstance(event, h11.Data):
                payload.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                found.complete = True
                break
    except h11.RemoteProtocolError as error:
        found.refused = str(error)
    found.payload = b"".join(payload)
    found.rest = bytes(connection.trailing_data[0])
    return found
