"""Make an exported model small and fast: 8-bit arithmetic in the network, shared constants, short names.

The quantisation is static (ranges of the activations are measured on recordings) and is ONNX Runtime's own. Weights
keep to 7 bits: on processors without 8-bit dot products two products are summed in 16 bits, which overflows otherwise,
and the same recording has to give the same notes everywhere.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

QUANTISED = ("Gemm", "Conv", "Relu", "Add", "Concat", "Slice", "Pad", "Gather", "Reshape")


class Blocks(CalibrationDataReader):
    """Blocks of audio with their context, one by one, as the quantiser wants them."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self.blocks = iter(blocks)

    def get_next(self) -> dict[str, np.ndarray] | None:
        block = next(self.blocks, None)
        return None if block is None else {"audio": block[None].astype(np.float32)}


def quantise(model: onnx.ModelProto, blocks: Iterable[np.ndarray], scope: str, keep: str) -> onnx.ModelProto:
    """8-bit version of a model.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (samples,)
        Inputs on which the ranges of the activations are measured.
    scope : str
        Prefix of the names of the nodes to quantise.
    keep : str
        Prefix of the names of those among them that stay as they are.
    """
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises to do what is done here
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (str(Path(folder) / name) for name in ("a.onnx", "b.onnx", "c.onnx"))
        onnx.save(model, source)
        quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        nodes = [n for n in onnx.load(prepared).graph.node if n.op_type in QUANTISED and n.name.startswith(scope)]
        quantize_static(
            prepared,
            target,
            Blocks(blocks),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_quantize=[n.name for n in nodes if n.op_type == "Gemm" or not n.name.startswith(keep)],
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        model = onnx.load(target)
    pad_in_8_bits(model.graph)
    return model


def pad_in_8_bits(graph: onnx.GraphProto) -> None:
    """Let Pad work on the quantised values, in place, where 0 stands for 0: ONNX Runtime would convert to and fro."""
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Pad"]:
        before, after = makers.get(node.input[0]), users[node.output[0]]
        if before is None or before.op_type != "DequantizeLinear" or len(after) != 1:
            continue
        scales = [[constants[name] for name in end.input[1:3]] for end in (before, after[0])]
        if scales[0] == scales[1] and scales[0][1] == 0:
            node.input[0], node.output[0] = before.input[0], after[0].output[0]
            del node.input[2:]
            graph.node.remove(after[0])


def shorten(model: onnx.ModelProto) -> None:
    """Merge equal constants and give tensors and nodes short names, in place. Inputs and outputs keep theirs.

    Of nodes only slices and look-ups keep one: ONNX Runtime before 1.22 derives from it the name of what it makes of
    several, and would refuse its own graph if two were the same.
    """
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
        else:
            nodes.append(node)
    first: dict[bytes, str] = {}
    names = {v.name: v.name for v in [*graph.input, *graph.output]}
    used = {name for node in nodes for name in node.input}
    kept = []
    for name, tensor in constants.items():
        if name not in used:
            continue
        tensor.name = ""
        content = tensor.SerializeToString(deterministic=True)
        if content not in first:
            first[content] = tensor.name = f"c{len(first)}"
            kept.append(tensor)
        names[name] = first[content]
    for number, node in enumerate(nodes):
        node.ClearField("name")
        if node.op_type in ("Slice", "Gather"):
            node.name = f"n{number}"
        for ends in (node.input, node.output):
            for i, name in enumerate(ends):
                ends[i] = names.setdefault(name, f"t{len(names)}") if name else ""
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
