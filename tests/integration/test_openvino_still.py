"""What OpenVINO can't do yet, each on the smallest graph: these tests fail once it can.

Every exception that calib makes from its rules is here without its guard. A failure is good news: the guard that the
test takes away can go from the code, and the test with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from building import Net, ints, op
from cpu_features import EXACT_INT8, FEATURES
from proof import error, prove, random_feeds

from calib import quantize
from calib.errors import CalibError
from calib.graph.layers import LAYERS
from calib.graph.operations import SELECTING
from calib.loading.load import load_model
from calib.runtime.executed import executed_nodes
from calib.runtime.session import Session, ov
from calib.values.plan import Port, Scheme

WRONG, FLOAT, REFUSED = "computes wrongly", "runs in floating point", "does not compile"
# What only kernels for AMX compute wrongly: others run it in INT8 and compute it rightly, but a model is made once for
# all CPUs.
WRONG_ON_AMX = WRONG if "amx" in FEATURES else ""


def symptom(model: ov.Model) -> str:
    """Quantize without asking whether that is wise, and name what OpenVINO makes of it; empty if all is well."""
    try:
        proof = prove(model, target="cpu")
    except (CalibError, RuntimeError):
        return REFUSED
    assert proof.planned
    if proof.broken:
        return FLOAT
    exact = proof if EXACT_INT8 else prove(model, target="cpu-no-vnni")  # saturation is not what is looked for
    return "" if exact.computes_what_it_says() else WRONG


def grouped_deconvolution():
    net = Net()
    return net.model(net.deconv(op.relu(net.input(1, 8, 8, 8)), 8, groups=2))


def signed_deconvolution():
    net = Net()
    return net.model(net.deconv(net.input(1, 16, 8, 8), 16))


def subtrahend():
    net = Net()
    return net.model(op.subtract(net.input(1, 4, 8, 8), op.relu(net.conv(net.inputs[0], 4))))


def negated_behind_a_relu():
    net = Net()
    return net.model(op.negative(op.relu(net.conv(net.input(1, 4, 8, 8), 4))))


def joined_with_a_constant():
    net = Net()
    x = op.relu(net.conv(net.input(1, 8, 8, 8), 8))
    return net.model(net.conv(op.concat([x, net.weights(1, 4, 8, 8)], 1), 4))


def dynamic_with_several_readers():
    net = Net()
    x = net.conv(net.input(-1, 8, -1, -1), 8)
    return net.model(op.add(op.relu(x), op.sigmoid(x)), op.tanh(x))


def weights_on_the_left():
    net = Net()
    return net.model(net.dense(op.relu(op.matmul(net.weights(16, 16), net.input(1, 16, 8), False, False)), 4))


def unsqueezed():
    net = Net()
    y = op.matmul(net.input(2, 8, 16), net.weights(16, 12), False, False)
    return net.model(op.unsqueeze(y, op.constant(np.int64(3))))


def padded_with_zeros():
    net = Net()
    x = op.subtract(op.softplus(net.input(1, 8, 8, 8)), op.constant(np.float32(0.4)))
    return net.model(net.conv(op.space_to_batch(x, ints(1, 1, 2, 2), ints(0, 0, 1, 1), ints(0, 0, 1, 1)), 8))


def depthwise_behind_two_groups():
    net = Net()
    return net.model(net.depthwise(net.conv(net.input(1, 4, 8, 8), 4, groups=2)))


def depthwise_behind_many_groups_and_a_join():
    net = Net()
    x = net.input(1, 8, 8, 8)
    return net.model(net.depthwise(op.concat([op.swish(net.conv(x, 16, groups=8)), x], 1)))


def wide_row():
    net = Net()
    return net.model(net.conv(net.input(1, 16, 64), 16, kernel=8))


GUARDED = {
    "calib.graph.finder._negated": {subtrahend: WRONG, negated_behind_a_relu: WRONG},
    "calib.graph.finder._miscompiled": {
        joined_with_a_constant: FLOAT,
        dynamic_with_several_readers: WRONG,
        unsqueezed: REFUSED,
    },
    "calib.graph.finder.right_on_some": {weights_on_the_left: REFUSED},
}


@pytest.mark.parametrize(
    ("guard", "make", "expected"),
    [(guard, make, expected) for guard, cases in GUARDED.items() for make, expected in cases.items()],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_layer_that_the_finder_leaves_out_is_still_a_fault(monkeypatch, guard, make, expected):
    monkeypatch.setattr(guard, lambda *_: "")
    assert symptom(make()) == expected


def test_a_wide_row_of_few_channels_is_still_a_fault_on_amx(monkeypatch):
    monkeypatch.setattr("calib.graph.finder._wide_row", lambda *_: "")
    assert symptom(wide_row()) == WRONG_ON_AMX


@pytest.mark.parametrize(
    ("make", "kind", "changes", "expected"),
    [
        (grouped_deconvolution, "GroupConvolutionBackpropData", {"never": ""}, FLOAT),
        (signed_deconvolution, "ConvolutionBackpropData", {"unless_positive": ""}, WRONG_ON_AMX),
        (
            signed_deconvolution,
            "ConvolutionBackpropData",
            {"unless_positive": "", "signed": Scheme.ASYMMETRIC},
            FLOAT,
        ),
    ],
    ids=["grouped deconvolution", "signed deconvolution", "deconvolution with a zero point"],
)
def test_an_operation_that_the_table_restricts_is_still_a_fault(monkeypatch, make, kind, changes, expected):
    monkeypatch.setitem(LAYERS, kind, replace(LAYERS[kind], **changes))
    assert symptom(make()) == expected


def test_zeros_that_space_to_batch_pads_with_are_still_the_lowest_level(monkeypatch):
    monkeypatch.setattr("calib.graph.placement.SELECTING", SELECTING | {"SpaceToBatch"})
    assert symptom(padded_with_zeros()) == WRONG


@pytest.mark.parametrize("make", [depthwise_behind_two_groups, depthwise_behind_many_groups_and_a_join])
def test_signed_ranges_for_each_channel_behind_groups_are_still_wrong_on_amx(monkeypatch, make):
    monkeypatch.setattr("calib.graph.placement._fused_into_groups", lambda *_: False)
    found = symptom(make())
    if "avx512" in FEATURES and "amx" not in FEATURES:
        assert found in ("", WRONG)  # in INT8 all the same; which of the two was only measured with AMX and on AVX2
    else:
        assert found == WRONG_ON_AMX


def test_one_scale_a_group_of_several_outputs_still_does_not_compile(monkeypatch):
    net = Net()
    model = net.model(net.conv(net.input(1, 8, 8, 8), 16, groups=4))
    monkeypatch.setattr("calib.graph.placement.scale_shape", lambda view, port: (4, 1, 1, 1, 1))
    assert symptom(model) == REFUSED


@pytest.mark.parametrize(
    ("first", "second"),
    [((Scheme.SYMMETRIC, False), (Scheme.SYMMETRIC, False)), ((Scheme.ASYMMETRIC, False), (Scheme.SYMMETRIC, True))],
    ids=["unsigned levels on the second", "a zero point on the first"],
)
def test_a_product_of_two_activations_still_runs_in_floating_point_with(monkeypatch, first, second):
    net = Net()
    shifted = op.add(net.input(1, 4, 8, 16), op.constant(np.float32(3)))
    model = net.model(op.matmul(shifted, op.relu(net.input(1, 4, 16, 8)), False, False))
    wanted = [(Port("MatMul_0", 0), *first), (Port("MatMul_0", 1), *second)]
    monkeypatch.setattr("calib.graph.placement._wanted", lambda view, layer: wanted)
    assert symptom(model) == FLOAT


def levels(x, low: float, high: float):
    ends = op.constant(np.float32(low)), op.constant(np.float32(high))
    return op.fake_quantize(x, *ends, *ends, 256)


def row_levels(weights):
    """Quantize a constant with a scale for each row, which for recurrent cells is one for each gate and unit."""
    high = np.abs(weights.get_data()).max(-1, keepdims=True)
    ends = op.constant(-high), op.constant(high)
    return op.fake_quantize(weights, *ends, *ends, 255)


@dataclass(frozen=True)
class Cell:
    """A recurrent operation whose weights, and perhaps its data and state, are quantized."""

    kind: str
    gates: int

    def build(self, data: tuple[float, float] | None, state: tuple[float, float] | None, quantized: bool = True):
        net, sequence = Net(), self.kind.endswith("sequence")
        front, more = ((1,), [op.constant(np.array([5]))]) if sequence else ((), [])
        x, h = net.input(1, *(5,) * sequence, 8), net.input(1, *front, 16)
        weights = [net.weights(*front, 16 * self.gates, 8), net.weights(*front, 16 * self.gates, 16)]
        weights = [row_levels(w) for w in weights] if quantized else weights
        inputs = [levels(x, *data) if data else x, levels(h, *state) if state else h]
        if self.kind.startswith("lstm"):
            inputs.append(op.constant(np.zeros((1, *front, 16), np.float32)))
        bias, end = net.weights(*front, 16 * self.gates), ["forward"] * sequence
        functions = [["tanh"], [], []] if self.kind == "rnn_cell" else []
        cell = getattr(op, self.kind)(*inputs, *more, *weights, bias, 16, *end, *functions)
        return net.model(cell.output(0))

    def symptom(self, data: tuple[float, float] | None, state: tuple[float, float] | None) -> str:
        model, exact = self.build(data, state), Session(self.build(None, None, quantized=False))
        try:
            session = Session(model)
        except CalibError:
            return REFUSED
        if not any(node.int8 for node in executed_nodes(session.compiled) if node.kind.startswith("RNN")):
            return FLOAT
        feeds = [[np.clip(array, -1, 1) for array in feed] for feed in random_feeds(model)]
        # The levels are 1/32 wide or less: an error of the size of the signal is none of theirs.
        distance = error([session(feed) for feed in feeds], [exact(feed) for feed in feeds])
        return WRONG if distance > 0.5 else ""


@pytest.mark.parametrize("cell", [Cell("lstm_sequence", 4), Cell("gru_sequence", 3)], ids=lambda cell: cell.kind)
def test_a_recurrent_sequence_still_needs_one_range_on_data_and_state(cell):
    assert cell.symptom((-4, 4), (-4, 4)) == ""
    assert cell.symptom((-4, 4), (-1, 1)) == WRONG
    assert cell.symptom((-4, 4), None) == REFUSED
    assert cell.symptom(None, None) == REFUSED


OTHERS = [Cell("rnn_sequence", 1), Cell("lstm_cell", 4), Cell("gru_cell", 3), Cell("rnn_cell", 1)]


@pytest.mark.parametrize("cell", OTHERS, ids=lambda cell: cell.kind)
def test_other_recurrent_cells_still_run_in_floating_point(cell):
    assert cell.symptom((-4, 4), (-4, 4)) == FLOAT


def primitive(model: ov.Model, kind: str) -> str:
    """Return the precision of the one executed node of a kind."""
    (node,) = [node for node in executed_nodes(Session(model).compiled) if node.kind == kind]
    return node.precision


def test_features_that_are_taken_out_and_read_as_tokens_are_still_memory_that_nobody_wrote():
    """The copy that :mod:`calib.graph.taken` makes, left out: the convolution's output is in two shapes at once."""
    net = Net(1)
    features = op.relu(net.conv(net.input(1, 3, 16, 16), 16, stride=2))
    tokens = op.transpose(op.reshape(features, ints(1, 16, -1), False), ints(0, 2, 1))
    head, last = net.dense(tokens, 3), op.transpose(features, ints(0, 2, 3, 1))
    (x,) = random_feeds(net.model(head), 1)
    (expected,) = Session(net.model(head))(x)
    _, own = Session(net.model(last, head))(x)
    assert not np.array_equal(own, expected)


def test_a_deformable_convolution_still_runs_in_floating_point():
    net = Net()
    x, offsets, weights = net.input(1, 8, 8, 8), net.input(1, 18, 8, 8), row_levels(net.weights(8, 8, 3, 3))
    window = [[1, 1]] * 4
    assert primitive(net.model(op.deformable_convolution(levels(x, -1, 1), offsets, weights, *window)),
                     "DeformableConvolution") == "f32"  # fmt: skip


def test_a_binary_convolution_still_reads_one_bit_of_each_input():
    net, bits = Net(), np.random.default_rng(0).integers(0, 255, 8 * 8 * 9 // 8).astype(np.uint8)
    weights = ov.op.Constant(ov.Tensor(bits, ov.Shape([8, 8, 3, 3]), ov.Type.u1))
    x, window = levels(net.input(1, 8, 8, 8), -1, 1), [[1, 1]] * 4
    assert primitive(net.model(op.binary_convolution(x, weights, *window, "xnor-popcount", 0.0)),
                     "BinaryConvolution") == "u1"  # fmt: skip


def test_fused_attention_is_still_one_primitive_in_which_no_levels_can_be_set():
    net = Net()
    qkv = [levels(net.input(1, 2, 8, 16), -1, 1) for _ in range(3)]
    nodes = executed_nodes(Session(net.model(op.scaled_dot_product_attention(*qkv))).compiled)
    assert [node.kind for node in nodes if any("Softmax" in name for name in node.originals)] == ["Subgraph"]
    assert not any(node.kind == "MatMul" for node in nodes)


def test_a_chain_of_matmuls_over_rows_is_still_one_subgraph_on_avx512_whose_primitive_says_f32(monkeypatch):
    """Where it is tried, on this CPU alone, building the model asks what it runs as."""
    net = Net()
    first, second = (
        np.random.default_rng(i).normal(size=s).astype(np.float32) for i, s in enumerate([(32, 12), (12, 6)])
    )
    hidden = op.elu(op.matmul(op.elu(net.input(1, 32), 1.0), first, False, False), 1.0)
    model = net.model(op.matmul(hidden, second, False, False))
    joined = "avx512" in FEATURES
    samples = [feed[0] for feed in random_feeds(model)]
    layers = quantize(model, samples, effort="fast", target="this-cpu").report.layers
    reason = "although its inputs were quantized"
    assert [(layer.executed, reason in layer.reason) for layer in layers] == [("f32" if joined else "i8", joined)] * 2
    monkeypatch.setattr("calib.graph.finder.right_on_some", lambda *_: "")
    assert symptom(model) == (FLOAT if joined else "")


def attend(x):
    """Return attention between the channels of an image, added to it."""
    flat = op.reshape(x, ints(0, 0, -1), True)
    mixed = op.matmul(op.softmax(op.matmul(flat, flat, False, True), -1), flat, False, False)
    return op.add(op.reshape(mixed, op.shape_of(x), False), x)


def channel_attention() -> ov.Model:
    net = Net()
    return net.model(net.conv(attend(attend(net.input(1, 4, 10, 12))), 8))


def test_attention_between_channels_is_still_fused_to_another_function(monkeypatch):
    monkeypatch.setattr("calib.loading.attention_apart._flattened", lambda softmax: False)
    loaded = load_model(channel_attention())
    feeds = random_feeds(loaded.model)
    ours, theirs = (list(Session(model).each(feeds)) for model in (loaded.model, loaded.reference))
    assert error(ours, theirs) > 0.1


CRASH = """
import sys

sys.path.insert(0, sys.argv[1])
import numpy as np
from test_openvino_still import channel_attention

import calib.loading.attention_apart as attention_apart
from calib.graph.taps import Need, tap
from calib.loading.load import load_model
from calib.runtime.session import compile_model
from calib.values.plan import TensorId

attention_apart._flattened = lambda softmax: sys.argv[2] == "with the rule"
model = load_model(channel_attention()).model
add = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() == "Add"][-1]
compile_model(tap(model, {TensorId(add): Need()}, {})[0][0].model)
print("compiled")
"""


@pytest.mark.parametrize("rule", ["with the rule", "without"])
def test_a_tap_behind_attention_that_was_fused_so_still_crashes_the_process(rule):
    folder = Path(__file__).parent
    argv = [sys.executable, "-c", CRASH, str(folder), rule]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder.parent), *sys.path])}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    expected = 0 if rule == "with the rule" else -signal.SIGSEGV
    assert done.returncode == expected, done.stderr


TWO_CORES = """
import os, signal, sys
import openvino as ov

first, second = ov.Core(), ov.Core()
for core in (first, second):
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plug-in, which sets a stack for signals
if sys.argv[1] == "in the order of their making":
    del core, first
    del second
else:
    del core, second
    del first
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the plug-in sets a stack for signals on Linux alone")
@pytest.mark.parametrize("order", ["in the order of their making", "in the opposite order"])
def test_two_cores_still_leave_no_stack_for_signals_if_the_first_one_goes_first(order: str):
    # Each sets back the stack that it found, which the other has freed: the next signal ends the process with SIGSEGV.
    # Hence one Core in a process (runtime/session.core), in the tests as well: tests/contracts/test_one_core.py.
    done = subprocess.run([sys.executable, "-c", TWO_CORES, order], capture_output=True, text=True, check=False)
    crashes = order == "in the order of their making"
    assert (done.returncode, done.stdout) == ((-signal.SIGSEGV, "") if crashes else (0, "interrupted\n")), done.stderr
