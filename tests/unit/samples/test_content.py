from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.samples.content import ContentDataset, choose_ids, content_id, number_duplicates, split_ids
from calib.samples.sample import InputSpec

IDS = st.lists(st.text(max_size=5), unique=True, max_size=30)
LAW = settings(derandomize=True, deadline=None, max_examples=50)


@LAW
@given(IDS, st.integers(0, 40), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_listing(ids, count, random):
    shuffled = list(ids)
    random.shuffle(shuffled)
    chosen = choose_ids(ids, count, "s")
    assert chosen == choose_ids(shuffled, count, "s") == sorted(chosen)
    assert len(chosen) == min(count, len(ids))


@LAW
@given(IDS, st.integers(0, 30))
def test_a_larger_choice_holds_the_smaller_one(ids, count):
    assert set(choose_ids(ids, count)) <= set(choose_ids(ids, count + 1)) <= set(choose_ids(ids, None))


@LAW
@given(IDS, st.floats(0, 1))
def test_a_split_loses_nothing(ids, share):
    kept, held = split_ids(ids, share, "s")
    assert sorted([*kept, *held]) == sorted(ids)
    assert len(held) == round(share * len(ids))


def test_what_is_never_held_out_is_kept_and_others_take_its_place():
    ids = [str(i) for i in range(20)]
    usual = split_ids(ids, 0.2, "s")[1]
    kept, held = split_ids(ids, 0.2, "s", usual[:1])
    assert usual[0] in kept and len(held) == 4 and set(usual[1:]) < set(held)


def test_salts_give_different_choices():
    ids = [str(i) for i in range(100)]
    assert choose_ids(ids, 10, "a") != choose_ids(ids, 10, "b")


@LAW
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=12), st.randoms())
def test_numbers_of_duplicates_do_not_depend_on_arrival(keys, random):
    shuffled = list(keys)
    random.shuffle(shuffled)
    named, again = (sorted(zip(number_duplicates(k), k, strict=True)) for k in (keys, shuffled))
    assert named == again
    assert len({one for one, _ in named}) == len(keys)


def test_contents_differ_by_value_shape_and_dtype():
    base = np.arange(6, dtype=np.float32)
    others = [base + 1, base.reshape(2, 3), base.astype(np.int32), base[:5]]
    assert len({content_id((a,)) for a in [base, *others]}) == 5
    assert content_id((base,)) == content_id((base.copy(),))


def test_ids_stay_the_same_from_version_to_version():
    assert content_id((np.arange(5, dtype=np.float32),)) == "028e154f8d6a69190bddb220a15add4b"
    assert content_id((np.arange(5000, dtype=np.float32), np.ones(3, np.int64))) == "d632849af6596f6e4ccfbcc9eacc0b8b"


@LAW
@given(st.integers(0, 20_000), st.integers(0, 63))
def test_a_single_flipped_bit_gives_another_id(word, bit):
    data = np.zeros(20_001, np.uint64)
    clean = content_id((data,))
    data[word] ^= np.uint64(1) << np.uint64(bit)
    assert content_id((data,)) != clean


def test_many_similar_samples_have_ids_of_their_own():
    data = np.zeros((2000, 4096), np.float32)
    for i, row in enumerate(data):
        row[i % 4096] = np.float32(1 + i // 10)
    assert len({content_id((row,)) for row in data}) == 2000


class Once:
    """Six samples that can only be iterated, and how many were made so far."""

    def __init__(self):
        self.made = 0

    def __iter__(self):
        for number in range(6):
            self.made += 1
            yield np.full((1, 2), number, np.float32)


def test_samples_that_are_only_iterated_are_read_one_by_one_in_their_own_order():
    source = Once()
    specs = [InputSpec("x", ("x",), (1, 2), np.dtype(np.float32))]
    dataset = ContentDataset("made", source, specs)
    ids = dataset.choose(5)
    ordered = dataset.reading_order(ids)
    assert sorted(ordered) == sorted(ids) and list(ordered) != list(ids)
    source.made = 0
    seen = [(float(sample.feed[0][0, 0]), source.made) for sample in dataset.load(ordered)]
    assert [made for _, made in seen] == [int(value) + 1 for value, _ in seen]  # none was read before its turn
    listed = ContentDataset("list", list(Once()), specs, at=list(Once()).__getitem__)
    assert listed.reading_order(ids) == ids
