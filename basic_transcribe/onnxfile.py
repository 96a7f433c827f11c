"""What an ONNX file holds, looked at before ONNX Runtime is given it, which would do whatever it says.

The file is a protobuf message (onnx.proto3 of the ONNX project). Only its structure is followed, to a fixed depth, and
nothing of it but names is copied.
"""

from __future__ import annotations

from collections.abc import Iterator

STANDARD_DOMAINS = (b"", b"ai.onnx")
# What networks are made of: arithmetic in memory that ONNX Runtime counts. Others go round its limit (Unique, for one).
OPERATORS = frozenset(
    b"Abs Add AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos"
    b" DequantizeLinear Div Elu Equal Erf Exp Expand Flatten Floor GRU Gather Gemm GlobalAveragePool Greater"
    b" HardSigmoid HardSwish Identity InstanceNormalization LSTM LayerNormalization LeakyRelu Less Log MatMul Max"
    b" MaxPool Min Mul Neg PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean ReduceMin ReduceSum Relu"
    b" Reshape Selu Shape Sigmoid Sin Slice Softmax Softplus Split Sqrt Squeeze Sub Tanh Transpose Unsqueeze"
    b" Where".split()
)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
# Numbers of the fields that are followed or refused.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_GRAPH_NODES, _GRAPH_TENSORS, _GRAPH_SPARSE = 1, 5, 15
_NODE_OPERATOR, _NODE_ATTRIBUTES, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INTEGER = 1, 3
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE = (22, 23)
_TENSOR_KIND, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 2, 13, 14
_OPSET_DOMAIN = 1
_STRING = 8  # as the kind of a tensor's elements


def check(data: bytes) -> None:
    """Refuse what a network for audio has no use for.

    That is data in other files, operators other than :data:`OPERATORS`, graphs within graphs (loops and branches),
    functions, strings, of which each takes memory that nobody counts, and sparse tensors, which are small in the file
    and huge in memory.

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
            _check_node(_message(value))
        elif number == _GRAPH_TENSORS:
            _check_tensor(_message(value))
        elif number == _GRAPH_SPARSE:
            raise ValueError("holds sparse tensors")


def _check_node(node: memoryview) -> None:
    operators = []
    for number, value in _fields(node):
        if number == _NODE_OPERATOR:
            operators.append(_message(value).tobytes())
        elif number == _NODE_ATTRIBUTES:
            _check_attribute(_message(value))
        elif number == _NODE_DOMAIN:
            _check_domain(value)
    for operator in operators:  # last, since the other messages say more
        if operator not in OPERATORS:
            name = ascii(operator[:40].decode("ascii", "replace"))
            raise ValueError(f"uses the operator {name}, for which a network for audio has no use")


def _check_attribute(attribute: memoryview) -> None:
    names, integers = set(), set()
    for number, value in _fields(attribute):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_message(value))
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            raise ValueError("holds loops or branches")
        elif number in _ATTRIBUTE_SPARSE:
            raise ValueError("holds sparse tensors")
        elif number == _ATTRIBUTE_NAME:
            names.add(_message(value).tobytes())
        elif number == _ATTRIBUTE_INTEGER:
            integers.add(_enum(value))
    if names & {b"value_string", b"value_strings"} or (b"to" in names and _STRING in integers):
        raise ValueError("holds strings")


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value):
            raise ValueError("refers to data in other files")
        if number == _TENSOR_KIND and _enum(value) == _STRING:
            raise ValueError("holds strings")


def _check_domain(domain: memoryview | int) -> None:
    if _message(domain).tobytes() not in STANDARD_DOMAINS:
        raise ValueError("uses operators that are not of the ONNX standard")


def _enum(value: memoryview | int) -> int:
    """The number that is left of it in ONNX Runtime, which takes 32 bits."""
    if not isinstance(value, int):
        raise ValueError("is damaged")
    return value & 0xFFFFFFFF


def _message(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("is damaged")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field: bytes for those that have a length, else an integer."""
    position, end = 0, len(message)
    while position < end:
        key, position = _varint(message, position)
        if key >> 32 or not key >> 3:  # protobuf would cut off the upper bits, and find another number
            raise ValueError("is damaged, or not an ONNX model")
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
