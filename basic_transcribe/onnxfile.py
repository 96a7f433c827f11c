"""What an ONNX file holds, looked at before ONNX Runtime is given it, which would do whatever it says.

The file is a protobuf message (onnx.proto3 of the ONNX project). Only its structure is followed, to a fixed depth, and
nothing of it is copied.
"""

from __future__ import annotations

from collections.abc import Iterator

STANDARD_DOMAINS = (b"", b"ai.onnx")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
# Numbers of the fields that are followed or refused.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_GRAPH_NODES, _GRAPH_TENSORS, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTES, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = (22, 23)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_OPSET_DOMAIN = 1


def check(data: bytes) -> None:
    """Refuse what a network for audio has no use for.

    That is data in other files, operators beyond the ONNX standard, graphs within graphs (loops and branches),
    functions, and sparse tensors, which are small in the file and huge in memory.

    Parameters
    ----------
    data : bytes
        The contents of an ONNX file.

    Raises
    ------
    ValueError
        If it holds such a thing, or is no ONNX file. The message completes "the file ...".
    """
    graphs = 0
    for number, value in _fields(memoryview(data)):
        if number == _MODEL_GRAPH:
            _check_graph(_message(value))
            graphs += 1
        elif number == _MODEL_OPSETS:
            for field, part in _fields(_message(value)):
                if field == _OPSET_DOMAIN:
                    _check_domain(part)
        elif number in (_MODEL_TRAINING, _MODEL_FUNCTIONS):
            raise ValueError("holds functions or a training graph")
    if graphs != 1:
        raise ValueError("is not an ONNX model")


def _check_graph(graph: memoryview) -> None:
    for number, value in _fields(graph):
        if number == _GRAPH_NODES:
            for field, part in _fields(_message(value)):
                if field == _NODE_ATTRIBUTES:
                    _check_attribute(_message(part))
                elif field == _NODE_DOMAIN:
                    _check_domain(part)
        elif number == _GRAPH_TENSORS:
            _check_tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            raise ValueError("holds sparse tensors")


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_message(value))
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            raise ValueError("holds loops or branches")
        elif number in _ATTRIBUTE_SPARSE:
            raise ValueError("holds sparse tensors")


def _check_tensor(tensor: memoryview) -> None:
    if any(number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value) for number, value in _fields(tensor)):
        raise ValueError("refers to data in other files")


def _check_domain(domain: memoryview | int) -> None:
    if _message(domain).tobytes() not in STANDARD_DOMAINS:
        raise ValueError("uses operators that are not of the ONNX standard")


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("is damaged")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field: bytes for those that have a length, else an integer."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        wire = key & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if wire == _BYTES:
            size, position = _varint(message, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError("is damaged, or not an ONNX model")
        if size > end - position:
            raise ValueError("is cut short or damaged")
        content = message[position : position + size]
        yield key >> 3, content if wire == _BYTES else int.from_bytes(content, "little")
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for shift, byte in zip(range(0, 70, 7), message[position : position + 10], strict=False):
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
    raise ValueError("is cut short or damaged")
