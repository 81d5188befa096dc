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
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, FromProgram):
        return {"t": "handle", "v": value.number}
    for base, tag, plain in _KINDS:
        if isinstance(value, base):
            form = {"t": tag, "v": plain(value, lambda inner: encode(inner, remember, depth + 1))}
            # An instance of a subclass goes as the plain data that it holds, and can come back as itself.
            return form if type(value) is base else {**form, "h": remember(value)}
    return {"t": "handle", "v": remember(value)}


class FromProgram:
    """Marks plain data that is more than that to the program, and by which number it knows it."""

    number = None


def decode(form, handle):
    """The value of a JSON-able form."""
    if not isinstance(form, dict):
        return form
    tag, inner = form["t"], form["v"]
    if tag == "handle":
        return handle(inner)
    value = _READERS[tag](inner, lambda item: decode(item, handle))
    if "h" not in form or tag not in _MARKED:
        return value
    marked = _MARKED[tag](value)
    marked.number = form["h"]
    return marked


def _items(base):
    return lambda value, encoded: [encoded(item) for item in base.__iter__(value)]


# Base classes' own methods, so that overridden ones are never asked.
_KINDS = (
    (list, "list", _items(list)),
    (tuple, "tuple", _items(tuple)),
    (set, "set", _items(set)),
    (frozenset, "frozenset", _items(frozenset)),
    (dict, "dict", lambda value, encoded: [[encoded(k), encoded(v)] for k, v in dict.items(value)]),
    (int, "int", lambda value, _: str(int.__add__(value, 0))),
    (float, "float", lambda value, _: float.hex(value)),
    (str, "str", lambda value, _: str.__str__(value)),
    (bytes, "bytes", lambda value, _: bytes.hex(value)),
    (bytearray, "bytes", lambda value, _: bytearray.hex(value)),
    (complex, "complex", lambda value, _: [value.real, value.imag]),
    (range, "range", lambda value, _: [value.start, value.stop, value.step]),
)
_READERS = {
    "list": lambda inner, decoded: [decoded(item) for item in inner],
    "tuple": lambda inner, decoded: tuple(decoded(item) for item in inner),
    "set": lambda inner, decoded: {decoded(item) for item in inner},
    "frozenset": lambda inner, decoded: frozenset(decoded(item) for item in inner),
    "dict": lambda inner, decoded: {decoded(key): decoded(value) for key, value in inner},
    "int": lambda inner, _: int(inner),
    "float": lambda inner, _: float.fromhex(inner),
    "str": lambda inner, _: str(inner),
    "bytes": lambda inner, _: bytes.fromhex(inner),
    "complex": lambda inner, _: complex(*inner),
    "range": lambda inner, _: range(*inner),
}
_MARKED = {
    base.__name__: type(f"{base.__name__}FromProgram", (FromProgram, base), {})
    for base in (list, tuple, set, frozenset, dict, int, float, str)
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
