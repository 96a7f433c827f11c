"""Hostile models: refused before ONNX Runtime sees them, or kept from taking the machine with them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from basic_transcribe.errors import ModelError
from basic_transcribe.model import DEFAULTS, Model, default_model_path
from basic_transcribe.onnxfile import OPERATORS, check

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

META: dict[str, Any] = {
    "format": 1,
    "name": "hostile",
    "version": "1",
    "sample_rate": 22050,
    "hop": 256,
    "frames_multiple": 1,
    "context_before": 256,
    "context_after": 256,
    "lowest_pitch": 21,
    "pitches": 4,
    "bins_per_semitone": 3,
    "defaults": dict(zip(DEFAULTS, (0.5, 0.6, 0.3, 5, 50), strict=True)),
}
WIDTHS = {"onset": 4, "note": 4, "offset": 4, "contour": 12, "level": 4}


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, outputs, **attributes)


def constant(name: str, values: Any, kind: Any = np.int64) -> Any:
    return numpy_helper.from_array(np.asarray(values, kind), name)


def built(nodes: list[Any], constants: list[Any], meta: Any = META, given: dict[str, str] | None = None) -> Any:
    """A model of our signature; ``nodes`` come first, and ``given`` says of outputs which value they are."""
    given = given or {}
    for name, width in WIDTHS.items():
        source = given.get(name, f"{name}_zeros")
        if name not in given:
            constants = [*constants, constant(source, np.zeros((1, 8, width)), np.float32)]
        nodes = [*nodes, node("Identity", [source], [name])]
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("audio", TensorProto.FLOAT, [1, "samples"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "n", width]) for name, width in WIDTHS.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"basic_transcribe": meta if isinstance(meta, str) else json.dumps(meta)})
    return model


def refused(model: Any, tmp_path: Path, words: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        Model(path, threads=1)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith("; use the model shipped with the package, or one written by scripts/export.py")


def test_honest_models_are_accepted(tmp_path: Path) -> None:
    check(default_model_path().read_bytes())
    (tmp_path / "m.onnx").write_bytes(built([], []).SerializeToString())
    assert Model(tmp_path / "m.onnx").name == "hostile 1"
    (tmp_path / "n.onnx").write_bytes(default_model_path().read_bytes())
    assert Model(tmp_path / "n.onnx").sha256 == Model().sha256


# ------------------------------------------------------------------------------------------------- what it may not hold


def branching() -> Any:
    branch = helper.make_graph([node("Identity", ["audio"], ["b"])], "branch", [], [])
    return built([node("If", ["yes"], ["x"], then_branch=branch, else_branch=branch)], [constant("yes", True, bool)])


def endless_loop() -> Any:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["on"], ["still"])],
        "body",
        [value("i", TensorProto.INT64, []), value("on", TensorProto.BOOL, [])],
        [value("still", TensorProto.BOOL, [])],
    )
    return built([node("Loop", ["", "yes"], [], body=body)], [constant("yes", True, bool)])


def other_operators() -> Any:
    model = built([node("Gelu", ["audio"], ["x"], domain="com.microsoft")], [])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def function() -> Any:
    model = built([], [])
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "f", ["x"], ["y"], [node("Identity", ["x"], ["y"])], opset))
    return model


def sparse() -> Any:
    model = built([], [])
    value = constant("huge", [1.0], np.float32)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(value, constant("i", [5]), [2**40]))
    return model


def sparse_attribute() -> Any:
    value = helper.make_sparse_tensor(constant("v", [1.0], np.float32), constant("i", [5]), [2**40])
    return built([node("Constant", [], ["x"], sparse_value=value)], [])


def elsewhere(tensor: Any) -> None:
    onnx.external_data_helper.set_external_data(tensor, "/etc/hostname")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL


def external() -> Any:
    model = built([], [])
    elsewhere(model.graph.initializer[0])
    return model


def external_attribute() -> Any:
    model = built([node("Constant", [], ["x"], value=constant("v", [1.0], np.float32))], [])
    elsewhere(model.graph.node[0].attribute[0].t)
    return model


def string_tensor() -> Any:
    text = helper.make_tensor("text", TensorProto.STRING, [1], [b"0." + 1000 * b"0"])
    return built([node("Expand", ["text", "s"], ["x"])], [text, constant("s", [10**6])])


def string_zeros() -> Any:
    text = helper.make_tensor("text", TensorProto.STRING, [1], [b"long"])
    return built([node("ConstantOfShape", ["s"], ["x"], value=text)], [constant("s", [10**6])])


def string_attribute() -> Any:
    return built([node("Constant", [], ["x"], value_string="long")], [])


def string_attributes() -> Any:
    return built([node("Constant", [], ["x"], value_strings=["long", "longer"])], [])


def cast_to_string() -> Any:
    return built([node("Cast", ["audio"], ["x"], to=TensorProto.STRING)], [])


def cast_to_string_in_32_bits() -> Any:
    return built([node("Cast", ["audio"], ["x"], to=TensorProto.STRING | 1 << 32)], [])


def string_tensor_in_32_bits() -> bytes:
    text = helper.make_tensor("text", TensorProto.STRING, [1], [b"long"])
    text.ClearField("data_type")
    graph = built([], []).graph.SerializeToString()
    return outer(graph + field(5, text.SerializeToString() + varint(2 << 3) + varint(TensorProto.STRING | 1 << 32)))


def uncounted_memory() -> Any:
    return built([node("Unique", ["audio"], ["x"])], [])


def unspeakable_operator() -> Any:
    return built([node("\u2028\n" + 1000 * "n", ["audio"], ["x"])], [])


def two_graphs() -> bytes:
    data: bytes = built([], []).SerializeToString()
    return data + data  # protobuf joins them


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (branching, "loops or branches"),
        (endless_loop, "loops or branches"),
        (other_operators, "operators that are not of the ONNX standard"),
        (function, "functions"),
        (sparse, "sparse tensors"),
        (sparse_attribute, "sparse tensors"),
        (external, "data in other files"),
        (external_attribute, "data in other files"),
        (string_tensor, "holds strings"),
        (string_zeros, "holds strings"),
        (string_attribute, "holds strings"),
        (string_attributes, "holds strings"),
        (cast_to_string, "holds strings"),
        (cast_to_string_in_32_bits, "holds strings"),
        (string_tensor_in_32_bits, "holds strings"),
        (uncounted_memory, "uses the operator 'Unique'"),
        (unspeakable_operator, "uses the operator '"),
        (two_graphs, "not an ONNX model"),
    ],
)
def test_what_a_network_has_no_use_for(make: Callable[[], Any], words: str, tmp_path: Path) -> None:
    refused(make(), tmp_path, words)


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message, of those that have a length."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def outer(graph: bytes) -> bytes:
    """A model with this graph."""
    model = built([], [])
    model.ClearField("graph")
    data: bytes = model.SerializeToString()
    return data + field(7, graph)


CUT_OFF = 1 << 29  # of a tag, protobuf keeps 32 bits, of which the number has 29


def test_numbers_of_fields_that_protobuf_cuts_off(tmp_path: Path) -> None:
    graph, others = built([], []).graph.SerializeToString(), sparse()
    outer_fields = built([], []).SerializeToString()
    hidden = [
        outer(graph + field(15 | CUT_OFF, others.graph.sparse_initializer[0].SerializeToString())),
        outer(graph + field(5 | CUT_OFF, external().graph.initializer[0].SerializeToString())),
        outer(graph + field(1 | CUT_OFF, branching().graph.node[0].SerializeToString())),
        outer_fields + field(25 | CUT_OFF, function().functions[0].SerializeToString()),
        outer_fields + field(7 | CUT_OFF, graph),
        outer_fields + field(CUT_OFF, b""),  # a number 0, which ends a message
        outer_fields + field(0, b""),
    ]
    for data in hidden:
        refused(data, tmp_path, "is damaged, or not an ONNX model")


def test_only_what_was_looked_at_is_loaded(tmp_path: Path) -> None:
    """With these bytes the format of ONNX Runtime itself would begin, of which nothing was looked at."""
    disguise = b"\x08\x00" + b"\x11\x00ORTM\x00\x00\x00"  # a version that the next overrides, a field nobody knows
    (tmp_path / "m.onnx").write_bytes(disguise + built([], []).SerializeToString())
    assert Model(tmp_path / "m.onnx").name == "hostile 1"


def test_operators_of_all_our_exports_are_known() -> None:
    """Of the shipped graph, of graphs in float32, and of those before 0.9.0."""
    graph = onnx.load(str(default_model_path())).graph
    assert {n.op_type.encode() for n in graph.node} | {b"Relu", b"Constant", b"AveragePool"} <= OPERATORS


def test_malformed_protobuf(tmp_path: Path) -> None:
    def nested(content: bytes, *tags: int) -> bytes:
        for tag in reversed(tags):
            content = bytes([tag]) + varint(len(content)) + content
        return content

    deep = b""
    for _ in range(2000):  # graphs in attributes of nodes of graphs
        deep = nested(deep, 0x0A, 0x2A, 0x32)
    refused(nested(deep, 0x3A), tmp_path, "loops or branches")
    refused(b"\x3a" + 9 * b"\xff" + b"\x01", tmp_path, "cut short")  # a graph of 2**64 bytes
    refused(b"\x3a" + 20 * b"\xff", tmp_path, "cut short or damaged")
    refused(b"\x3b\x3c", tmp_path, "damaged, or not an ONNX model")  # a group
    refused(b"\x38\x01", tmp_path, "damaged")  # a number for a graph


# ------------------------------------------------------------------------------------------------ what it may not take


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("ConstantOfShape", ["s"], ["x"])], [constant("s", [1, 10**10, 4])]),
        ([node("Expand", ["one", "s"], ["x"])], [constant("one", [1.0], np.float32), constant("s", [1, 10**10, 4])]),
        (
            [node("Shape", ["audio"], ["n"]), node("Mul", ["n", "k"], ["s"]), node("ConstantOfShape", ["s"], ["x"])],
            [constant("k", [10**5, 10**5])],
        ),
        ([node("Range", ["a", "b", "c"], ["x"])], [constant("a", 0), constant("b", 10**11), constant("c", 1)]),
        ([node("ConstantOfShape", ["s"], ["x"])], [constant("s", [2**62, 2**62])]),
        ([node("ConstantOfShape", ["s"], ["x"])], [constant("s", [-1])]),
    ],
    ids=["zeros", "expanded", "of the input's size", "range", "overflow", "negative"],
)
@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
def test_no_model_takes_all_the_memory(nodes: list[Any], constants: list[Any], tmp_path: Path) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    used = [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT), node("ReduceSum", ["y"], ["z"], keepdims=0)]
    wanted = [node("Add", ["note_zeros", "z"], ["w"])]
    zeros = constant("note_zeros", np.zeros((1, 8, 4)), np.float32)
    refused(built([*nodes, *used, *wanted], [*constants, zeros], given={"note": "w"}), tmp_path, "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_tensors_of_other_sizes_than_they_claim(tmp_path: Path) -> None:
    model = built([], [])
    model.graph.initializer[0].dims[0] = 2**40
    refused(model, tmp_path, "")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    wrong = constant("w", np.full((1, 8, 4), value), np.float32)
    refused(built([], [wrong], given={"level": "w"}), tmp_path, "not finite")


def test_names_are_shown_in_one_line(tmp_path: Path) -> None:
    refused(built([node("Identity", ["no\x01such"], ["x"])], []), tmp_path, "no\\x01such")


@pytest.mark.parametrize("frames", [0, 1, 7, 9])
def test_another_number_of_frames_than_asked_for(frames: int, tmp_path: Path) -> None:
    wrong = constant("w", np.zeros((1, frames, 4)), np.float32)
    refused(built([], [wrong], given={"offset": "w"}), tmp_path, f"it makes {frames} frames of 'offset'")


def test_another_number_of_frames_than_of_silence(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(built([], []).SerializeToString())
    model = Model(tmp_path / "m.onnx")
    for length in (7, 9):
        with pytest.raises(ModelError, match="it makes 8 frames of 'onset'"):
            list(model.posteriors([np.zeros(length * 256, np.float32)]))


@pytest.mark.parametrize("name", WIDTHS)
def test_values_that_only_sound_makes_no_numbers(name: str, tmp_path: Path) -> None:
    root = [node("ReduceMax", ["audio"], ["a"], keepdims=0), node("Neg", ["a"], ["b"]), node("Sqrt", ["b"], ["c"])]
    zeros = constant("zeros", np.zeros((1, 8, WIDTHS[name])), np.float32)
    model = built([*root, node("Add", ["zeros", "c"], ["w"])], [zeros], given={name: "w"})
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    loaded = Model(tmp_path / "m.onnx")
    assert sum(map(len, loaded.posteriors([np.zeros(8 * 256, np.float32)]))) == 8
    with pytest.raises(ModelError, match=f"it makes values of '{name}' that are not finite; use the model shipped"):
        list(loaded.posteriors([np.full(8 * 256, 0.1, np.float32)]))


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ("[" * 100_000, "not JSON"),
        ('{"format": ' + "9" * 10_000 + "}", "not JSON"),
        (META | {"hop": 10**9}, "'hop' must be an integer from 1 to"),
        (META | {"frames_multiple": 10**6}, "'frames_multiple' must be"),
        (META | {"name": "two\nlines"}, "'name' must be a short text"),
        (META | {"version": "\ud800"}, "'version' must be a short text"),
        (META | {"name": "n" * 10**6}, "'name' must be a short text"),
        (META | {"defaults": META["defaults"] | {"onset_threshold": float("nan")}}, "onset_threshold is nan"),
        (META | {"defaults": META["defaults"] | {"minimum_note_length": 1e300}}, "minimum_note_length is 1e+300"),
    ],
)
def test_metadata_of_no_use(meta: Any, words: str, tmp_path: Path) -> None:
    refused(built([], [], meta), tmp_path, words)


@pytest.mark.parametrize(
    "extra", [{"monophonic": "no"}, {"minimum_frequency": 5000.0}, {"maximum_frequency": "x"}, {"made_up": None}]
)
def test_defaults_that_are_not_asked_for_are_left_out(extra: dict[str, Any], tmp_path: Path) -> None:
    meta = META | {"defaults": META["defaults"] | extra}
    (tmp_path / "m.onnx").write_bytes(built([], [], meta).SerializeToString())
    assert Model(tmp_path / "m.onnx").defaults == META["defaults"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for path in (tmp_path / "pipe.onnx", "/dev/zero"):
        with pytest.raises(ModelError, match="it is no file"):
            Model(path)
