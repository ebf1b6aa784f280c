"""Hold operations that draw random numbers still, so that two runs of a network can be compared.

OpenVINO draws other numbers at each inference, with a seed too: the state goes on from inference to inference, apart in
each stream. So a RandomUniform is replaced, in the clone that is compiled to measure, by numbers that depend on its
name and its shape alone; the model itself keeps its operation::

    c_p = (n + offset_p)³ mod p    for n = 0, 1, 2, … and the primes 2039 and 2027
    u = (c_2039 + ½) / 2039 + c_2027 / 2027

and the fraction of u is uniform in (0, 1): cubes are a permutation modulo a prime p for which 3 does not divide p − 1,
and the two together repeat after 4.1 million numbers. All products are integers below 2²², exact in f32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from calib.runtime.session import attributes_of, drawing, ov

op = ov.opset13

_PRIMES = (2039, 2027)
_NEAREST = 2.0**-20  # to 0 and 1: the logarithm of what is drawn has to be finite


def can_be_held(node: ov.Node) -> bool:
    """Return whether a drawing operation can be held still; only drawing without replacement can't."""
    return node.get_type_name() == "RandomUniform" or bool(attributes_of(node)["with_replacement"])


def held_still(model: ov.Model) -> ov.Model:
    """Return a clone that draws the same numbers at each inference."""
    clone = model.clone()
    for node in drawing(clone):
        if can_be_held(node):
            still = _uniform(node) if node.get_type_name() == "RandomUniform" else _multinomial(node)
            still.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(still.output(0))
    return clone


def random_sentences(model: ov.Model) -> list[str]:
    """Return sentences for the report on operations that draw random numbers; empty if there are none."""
    found = drawing(model)
    sentences: list[str] = []
    if held := [node for node in found if can_be_held(node)]:
        sentences.append(
            f"The model draws random numbers ({_named(held)}). The same numbers stand in for them in all runs here, "
            "FP32 and INT8, so that the figures compare like with like; they hold for that draw. The written model "
            "draws its own"
        )
    if others := [node for node in found if not can_be_held(node)]:
        sentences.append(
            f"The model draws random numbers without replacement ({_named(others)}), which can't be held still: FP32 "
            "and INT8 are compared on other draws, and the figures change from run to run. Measure a model that ends "
            "before it"
        )
    return sentences


def _named(nodes: Sequence[ov.Node]) -> str:
    more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    return ", ".join(f"{node.get_type_name()} {node.get_friendly_name()!r}" for node in nodes[:3]) + more


def _constant(value: Any, kind: Any = np.float32) -> ov.Node:
    return op.constant(np.array(value, kind))


def _fractions(name: str, shape: ov.Output) -> ov.Node:
    """Return numbers in (0, 1), f32 of a shape that is computed at run time."""
    count = op.convert(op.reduce_prod(shape, _constant([0], np.int64), False), "f32")
    n = op.range(_constant(0), count, _constant(1), "f32")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    total: Any = _constant(0.5 / _PRIMES[0])
    for position, prime in enumerate(_PRIMES):
        offset = int.from_bytes(digest[4 * position : 4 * position + 4], "big") % prime
        modulus = _constant(prime)
        k = op.floor_mod(op.add(n, _constant(offset)), modulus)
        cube = op.floor_mod(op.multiply(op.floor_mod(op.multiply(k, k), modulus), k), modulus)
        total = op.add(total, op.multiply(cube, _constant(1 / prime)))
    fraction = op.clamp(op.subtract(total, op.floor(total)), _NEAREST, 1 - _NEAREST)
    return op.reshape(fraction, shape, False)


def _uniform(node: ov.Node) -> ov.Node:
    """Return ``low + fraction · (high − low)`` of a RandomUniform's type, rounded down for integers."""
    shape, *ends = node.input_values()
    low, high = (op.convert(op.reshape(end, _constant([], np.int64), False), "f32") for end in ends)
    drawn = op.add(low, op.multiply(_fractions(node.get_friendly_name(), shape), op.subtract(high, low)))
    kind = node.get_output_element_type(0)
    return op.convert(drawn if kind.is_real() else op.floor(drawn), kind.get_type_name())


def _multinomial(node: ov.Node) -> ov.Node:
    """Return the classes whose cumulative probabilities hold the fractions, ``(batch, samples)``."""
    probabilities, count = node.input_values()
    if attributes_of(node)["log_probs"]:
        probabilities = op.softmax(probabilities, -1).output(0)
    last = _constant(-1, np.int64)
    rows = op.gather(op.shape_of(probabilities), _constant([0], np.int64), _constant(0, np.int64))
    samples = op.reshape(op.convert(count, "i64"), _constant([1], np.int64), False)
    fractions = _fractions(node.get_friendly_name(), op.concat([rows, samples], 0).output(0))
    cumulative = op.convert(op.cumsum(probabilities, last), "f32")
    sums = op.convert(op.reduce_sum(probabilities, last, True), "f32")
    below = op.greater(
        op.unsqueeze(op.multiply(fractions, sums), _constant(2, np.int64)),
        op.unsqueeze(cumulative, _constant(1, np.int64)),
    )
    drawn = op.reduce_sum(op.convert(below, "f32"), last, False)
    return op.convert(drawn, node.get_output_element_type(0).get_type_name())
