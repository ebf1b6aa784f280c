from __future__ import annotations

from trust_fixtures.tiny import convnet, images

from calib.corrections.equalization import equalize
from calib.graph.finder import find
from calib.graph.placement import place
from calib.graph.view import GraphView


def equalized(held):
    model = convnet(imbalance=64.0)
    view = GraphView(model)
    return equalize(model, view, place(view, find(view, ())), [[image[None]] for image in images(8)], held)


def test_equalization_says_by_how_much_on_samples_that_had_no_say():
    found, elsewhere = (equalized([[image[None]] for image in held]) for held in (images(4, 5), 3 * images(4, 6)))
    (fact,) = [fact for fact in found.facts if fact.kept]
    assert fact.sqnr_before_db is not None and fact.sqnr_after_db is not None
    assert fact.sqnr_after_db > fact.sqnr_before_db + 10  # a channel 64 times as large as the others
    assert [s.factors for s in elsewhere.scalings] == [s.factors for s in found.scalings]
    assert [f.sqnr_after_db for f in elsewhere.facts] != [f.sqnr_after_db for f in found.facts]


def test_without_held_samples_the_others_say_it():
    found = equalized([])
    assert found.outputs == [] and found.facts and all(f.sqnr_after_db is not None for f in found.facts)
