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

    def of(self, **values: object) -> str:
        """Return the reason with the names or numbers that it leaves open in braces."""
        return str(self).format(**values)


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
# Of layers, which ``layers`` lists, in forms that do not run in INT8, or not rightly, or not faster.
CONVOLUTIONS: Mapping[str, Refusal] = {
    "expectation": Refusal(
        # 200,000 rows of normal logits, probabilities in u8 over [0, 1], weights 0 to 15 in i8: .04 on average
        "it takes the expectation over a Softmax (box decoding), where a level's width is a visible shift: over 16 "
        "places 1 % of the boxes move by more than a tenth of a place"
    ),
    "readers": Refusal(
        "its output has a dynamic shape, no bias and several readers: OpenVINO 2026.4 then applies the scale of its "
        "weights once for each reader"
    ),
    "wide": Refusal(
        "its kernel is {width} wide over {channels} channels, which OpenVINO 2026.4 computes wrongly on CPUs with AMX"
    ),
    "halved": Refusal(
        "its input can be negative, which its INT8 kernel takes with signed levels: on CPUs without VNNI that halves "
        "the weights and rounds them again (on AVX2 a kernel of 3 x 3 x 3 was off by 3 % of its largest output)"
    ),
}
DECONVOLUTIONS: Mapping[str, Refusal] = {
    "signed": Refusal(
        "its input can be negative, and INT8 deconvolution of signed data computes wrong numbers on CPUs with AMX, and "
        "for some kernels with AVX-512, in OpenVINO 2026.4"
    ),
    "stride": Refusal("its last stride is {stride}, and the CPU plug-in runs deconvolutions of strides over 3 in f32"),
    "kernel": Refusal("its kernel {kernel} is smaller than its strides {strides}, which the CPU plug-in runs in f32"),
    "grouped": Refusal("the CPU plug-in has no INT8 primitive for grouped deconvolution"),
}
MATMULS: Mapping[str, Refusal] = {
    "shallow": Refusal(
        "it sums {products} products an output, as box decoding does, and no INT8 layer reads it: quantizing its input "
        "costs more than INT8 saves (with 7 products 224 µs against 148 in f32, on a CPU with AMX; with AVX2 1.03 to "
        "2.5 times as long as f32)"
    ),
    # Both forms of 16 to 2,048 products over 1 to 4,096 rows, in CPU time.
    "vector": Refusal(
        "its weights are a vector: it makes one number of a row, and to quantize the row costs what INT8 saves (on "
        "AVX2 its INT8 form took 1 to 2.9 times as long as f32, and .9 to 1.1 times behind an INT8 layer)"
    ),
    "single row": Refusal(
        "its data is a vector, a single row without a batch, for which INT8 saves nothing (on AVX2 its INT8 form took "
        "1.1 to 1.5 times as long as f32)"
    ),
    "left": Refusal(
        "its weights are on the left and another layer reads it, which OpenVINO 2026.4 compiles in some forms only, "
        "and which was not seen to be right on CPUs with AMX"
    ),
    # Found with AVX-512 at one thread for an inference; a bias between them, or more threads, and they are right.
    "rows": Refusal(
        "it is in a chain of MatMuls over rows without biases, which OpenVINO 2026.4 runs as one f32 kernel that gives "
        "zeros on CPUs with AVX-512, with one thread for an inference"
    ),
    # Random activations on both sides.
    "saturates": Refusal(
        "its second factor is an activation: only weights can be kept in half the range, without which sums of INT8 "
        "products saturate on CPUs without VNNI (11 % of the signal on AVX2, where attention of 8 heads of 256 x 64 "
        "took 4.9 ms in INT8 and 3.7 ms in f32)"
    ),
    "itself": Refusal("it multiplies a tensor with itself: its two inputs need different levels"),
    "unsqueeze": Refusal(
        "an Unsqueeze reads it, through which OpenVINO 2026.4 fails to move the scales of its weights"
    ),
}
ANY_LAYER: Mapping[str, Refusal] = {
    "type": Refusal("input {index} ({tensor}) is {element}, not f32"),
    "rank": Refusal("input {index} ({tensor}) has a dynamic rank"),
    "constant": Refusal("both inputs are constant"),
    "computed": Refusal("its weights are not constant: they are an input of the model, or computed at run time"),
    "subtrahend": Refusal(
        "{reader} subtracts its output, which OpenVINO 2026.4 computes wrongly or in f32 behind INT8"
    ),
    "negated": Refusal("{reader} negates its output behind a Relu, which OpenVINO 2026.4 computes wrongly behind INT8"),
    "joined": Refusal("{source} joins its input from a constant and others, behind which OpenVINO runs f32"),
    "extreme": Refusal("its levels would be fused into {extreme}, which OpenVINO 2026.4 computes wrongly"),
}
# Ends the reason of a layer whose INT8 form is not right on every x86 CPU.
NOT_EVERYWHERE = "; --target this-cpu takes it into INT8 where this CPU computes it rightly"
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
# Recurrent operations that are written out as sequences of one direction, so that these can be layers, and are found by
# their names among what executed.
AS_SEQUENCES = frozenset({"LSTMSequence", "GRUSequence", "RNNSequence", "TensorIterator", "Loop"})
AS_IT_IS = "the model was not normalized here, so it was not written out as MatMuls"
IN_A_BODY = "it is inside a body of another operation, where calib writes nothing out as MatMuls"

BODIES = ("If", "Loop", "TensorIterator")

# INT8 passes through these unchanged, and each output value is one of the input values, so the range of the input
# serves the output: a quantizer can sit in front of them. SpaceToBatch is not among them: the zeros that it pads with
# are the lowest level to OpenVINO 2026.4, not the zero point. A Pad that writes zeros is one of them for some inputs
# only, see ``placement``.
SELECTING = frozenset(
    {
        "MaxPool",
        "Pad",
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
