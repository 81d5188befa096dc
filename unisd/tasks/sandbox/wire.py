"""Values between worker and judge: JSON with tags, plain data only. Standard library only; both sides import it.

The worker is not trusted: nothing here calls a method that its program could have overridden, and what comes in is
rebuilt from plain values, so that an object that equals everything arrives as a handle that equals nothing.
"""

import json
import os
import struct

MAX_BYTES = 4_000_000
_MAX_DEPTH = 60


def encode(value, remember, depth=0):
    """A JSON-able form of a value; what is no plain data is remembered and becomes a handle."""
    if depth > _MAX_DEPTH:
        raise ValueError("a value is nested too deeply")
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    for base, tag, items in _CONTAINERS:
        if isinstance(value, base):
            return {"t": tag, "v": [encode(item, remember, depth + 1) for item in items(value)]}
    if isinstance(value, dict):
        pairs = dict.items(value)
        return {"t": "dict", "v": [[encode(k, remember, depth + 1), encode(v, remember, depth + 1)] for k, v in pairs]}
    for base, tag, text in _SCALARS:
        if isinstance(value, base):
            return {"t": tag, "v": text(value)}
    return {"t": "handle", "v": remember(value), "call": callable(value)}


def decode(form, handle):
    """The value of a JSON-able form."""
    if not isinstance(form, dict):
        return form
    tag, inner = form["t"], form["v"]
    if tag in _BUILDERS:
        return _BUILDERS[tag](decode(item, handle) for item in inner)
    if tag == "dict":
        return {decode(key, handle): decode(value, handle) for key, value in inner}
    if tag == "handle":
        return handle(inner)
    return _READERS[tag](inner)


def _bytes_text(value):
    return bytes.hex(value) if isinstance(value, bytes) else bytearray.hex(value)


# Base classes' own methods, so that overridden ones are never asked.
_CONTAINERS = (
    (list, "list", list.__iter__),
    (tuple, "tuple", tuple.__iter__),
    (set, "set", set.__iter__),
    (frozenset, "frozenset", frozenset.__iter__),
)
_SCALARS = (
    (int, "int", lambda value: str(int.__add__(value, 0))),
    (float, "float", float.hex),
    (str, "str", str.__str__),
    ((bytes, bytearray), "bytes", _bytes_text),
    (complex, "complex", lambda value: [complex.__abs__(value), value.real, value.imag]),
    (range, "range", lambda value: [value.start, value.stop, value.step]),
)
_BUILDERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_READERS = {
    "int": int,
    "float": float.fromhex,
    "str": str,
    "bytes": bytes.fromhex,
    "complex": lambda parts: complex(parts[1], parts[2]),
    "range": lambda parts: range(*parts),
}


def send(descriptor, message):
    """Writes one message."""
    data = json.dumps(message).encode()
    if len(data) > MAX_BYTES:
        raise ValueError("a value is too large")
    os.write(descriptor, struct.pack("<I", len(data)))
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor):
    """Reads one message; None at the end. Raises ValueError for what is no message."""
    head = _exactly(descriptor, 4)
    if head is None:
        return None
    (size,) = struct.unpack("<I", head)
    if size > MAX_BYTES:
        raise ValueError("a message is too large")
    data = _exactly(descriptor, size)
    return None if data is None else json.loads(data)


def _exactly(descriptor, size):
    data = b""
    while len(data) < size:
        part = os.read(descriptor, size - len(data))
        if not part:
            return None
        data += part
    return data
