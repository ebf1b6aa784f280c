"""How the CPU plug-in treats the operations around layers; the layers themselves are in ``layers``.

The rows were found by compiling small graphs and looking up the executed primitives; ``tests/integration`` checks them.
"""

from __future__ import annotations

RECURRENT = "recurrent cells need one identical signed range on data and state and fail to compile otherwise"
IN_FLOAT = "the CPU plug-in runs this recurrent cell in floating point, whatever its inputs are"
# Layers with weights inside that calib leaves alone, and why.
LEFT_ALONE: dict[str, str] = {
    "LSTMSequence": RECURRENT,
    "GRUSequence": RECURRENT,
    "RNNSequence": IN_FLOAT,
    "LSTMCell": IN_FLOAT,
    "GRUCell": IN_FLOAT,
    "RNNCell": IN_FLOAT,
    # INT8 queries and keys made 12 heads of 512 x 64 faster by 13 %, values too only by 8 %.
    "ScaledDotProductAttention": "fused attention runs as one primitive: its Softmax can't be given levels",
    "DeformableConvolution": "the CPU plug-in has no INT8 primitive for deformable convolution",
    "BinaryConvolution": "binary weights are not quantized again",
}

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

# These read a tensor's shape only: they take no part in what its consumers want.
SHAPE_ONLY = frozenset({"ShapeOf"})
