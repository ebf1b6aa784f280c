"""How the CPU plug-in treats the operations around layers; the layers themselves are in ``layers``.

The rows were found by compiling small graphs and looking up the executed primitives; ``tests/integration`` checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Recurrent layers: LSTM and GRU sequences run in INT8 where their error over time allows it, the others never do; see
# ``recurrent``.
RECURRENT = ("LSTMSequence", "GRUSequence", "RNNSequence", "LSTMCell", "GRUCell", "RNNCell")
# Reason of those that may, before their error is known.
MEASURED = "a recurrent layer: it runs in INT8 where its error over whole held-out sequences allows that"
# Layers with weights inside that calib leaves alone, and why.
LEFT_ALONE: dict[str, str] = {
    "DeformableConvolution": "the CPU plug-in has no INT8 primitive for deformable convolution",
    "BinaryConvolution": "binary weights are not quantized again",
}


@dataclass(frozen=True)
class Refusal:
    """Why an operation stays in floating point.

    Attributes:
        cpu: CPU that it was measured on, where it may be otherwise on others; empty where it is so on all.
    """

    reason: str
    cpu: str = ""

    def __str__(self) -> str:
        return self.reason + (f" (measured on {self.cpu})" if self.cpu else "")


# Attention over fewer keys is slower in INT8 than fused in f32: two layers with heads of 32 and 64 ran at .98 with 16
# keys, at .96 and 1.03 with 49, at 1.15 with 64 (one thread, AMX).
MANY_KEYS = 64

# Fewer keys and a state are asked of attention that a file writes out as MatMuls too.
ATTENTION: Mapping[str, Refusal] = {
    "few": Refusal(
        "it attends over fewer than 64 keys, where INT8 is no faster than fused attention in floating point: two "
        "layers ran at .98 of its speed over 16 keys and .96 and 1.03 over 49 with AMX, .92 and .88 with AVX2",
        "CPUs with AMX and with AVX2",
    ),
    "state": Refusal(
        "it attends over keys and values in a state of the model (a KV cache): quantizers would break the fused kernel "
        "that reads them there, .40 → 4.26 ms a token with AVX-512 and 1.1 → 2.1 ms with AVX2",
        "CPUs with AVX-512 VNNI and with AVX2",
    ),
    "inputs": Refusal("it has an attention sink, which calib does not write out"),
    "rank": Refusal("its inputs have a dynamic rank"),
    "scale": Refusal("its scale is not one number"),
}
EINSUM: Mapping[str, Refusal] = {
    "one": Refusal("it multiplies nothing: it moves or sums the axes of one tensor"),
    "sum": Refusal("it sums no products: no label of two of its inputs is missing in its output"),
    "vectors": Refusal("it multiplies vectors with vectors, each with one other: there is no matrix"),
    "diagonal": Refusal("it takes a diagonal: a label stands twice at one of its inputs"),
    "broadcast": Refusal("axes of one label differ in length, or may differ"),
    "unknown": Refusal("it would join several axes of unknown length: give the model static shapes"),
    "rank": Refusal("its inputs have a dynamic rank"),
}
# Operations that are written out as MatMuls before layers are looked for, with each reason why one stays as it is.
WRITTEN_OUT: Mapping[str, Mapping[str, Refusal]] = {"ScaledDotProductAttention": ATTENTION, "Einsum": EINSUM}
# Recurrent operations that are written out as sequences of one direction, so that these can be layers.
AS_SEQUENCES = frozenset({"LSTMSequence", "GRUSequence", "TensorIterator", "Loop"})
AS_IT_IS = "the model was not normalized here, so it was not written out as MatMuls"
IN_A_BODY = "it is inside a body of another operation, where calib writes nothing out as MatMuls"

BODIES = ("If", "Loop", "TensorIterator")

# INT8 passes through these unchanged, and each output value is one of the input values, so the range of the input
# serves the output: a quantizer can sit in front of them. SpaceToBatch is not among them: the zeros that it pads with
# are the lowest level to OpenVINO 2026.4, not the zero point.
SELECTING = frozenset(
    {
        "MaxPool",
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Slice",
        "StridedSlice",
        "Gather",
        "ShuffleChannels",
        "DepthToSpace",
        "BatchToSpace",
        # In front of them and not behind: fused into the reduction, a FakeQuantize gives wrong numbers (error as large
        # as the signal).
        "ReduceMax",
        "ReduceMin",
    }
)

# Activations that OpenVINO moves a multiplication through as if its factor were never negative.
RECTIFYING = frozenset({"Relu", "PRelu"})

# A FakeQuantize behind these is fused into them, through the element-wise operations in between, and then works on the
# partial results: wrong numbers in OpenVINO 2026.4 (error of the size of the signal).
EXTREMES = frozenset({"ReduceMax", "ReduceMin"})
ELEMENTWISE = frozenset(
    {
        *("Abs", "Add", "Ceiling", "Clamp", "Convert", "Divide", "Elu", "Erf", "Exp", "Floor", "Gelu", "HSigmoid"),
        *("HSwish", "HardSigmoid", "Log", "Maximum", "Minimum", "Mish", "Multiply", "Negative", "PRelu", "Power"),
        *("Relu", "Round", "Selu", "Sigmoid", "Sign", "SoftPlus", "SoftSign", "Sqrt", "Subtract", "Swish", "Tanh"),
    }
)

# What keys and values can pass on their way from a state to attention: moved, joined, repeated, turned by position.
CARRYING = ELEMENTWISE | {
    *("Broadcast", "Concat", "Gather", "Reshape", "ScatterNDUpdate", "ScatterUpdate", "Select", "Slice", "Split"),
    *("Squeeze", "StridedSlice", "Tile", "Transpose", "Unsqueeze", "VariadicSplit"),
}

# These read a tensor's shape only: they take no part in what its consumers want.
SHAPE_ONLY = frozenset({"ShapeOf"})
