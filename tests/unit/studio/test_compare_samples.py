from __future__ import annotations

from calib.studio.compare_samples import samples_that_got_worse
from calib.values.pictures import ChangedFacts, PictureFacts


def changed(*names: str) -> ChangedFacts:
    return ChangedFacts(metric="top-1", samples=9, right_or_wrong=True, worse=len(names), better=0, names=list(names))


def drawing(name: str) -> tuple[PictureFacts, str]:
    return PictureFacts(file="pictures/1.png", sample=f"row {name}", id=name, change="top-1 1 → 0"), "data:,"


def test_what_more_runs_get_wrong_comes_first_with_the_picture_of_each_run_that_has_one():
    found = samples_that_got_worse(
        [
            ("one", changed("a", "b"), [drawing("a"), drawing("b")]),
            ("two", changed("b", "c"), [drawing("b"), drawing("a")]),  # a: it got better there
            ("old", None, [drawing("z")]),
        ]
    )
    assert [(one.name, one.runs, [name for name, _ in one.drawings]) for one in found.drawn] == [
        ("row b", ["one", "two"], ["one", "two"]),
        ("row a", ["one"], ["one"]),
    ]
    assert [one.name for one in found.others] == ["c"] and found.compared == 2
    assert [name for name, _ in found.sentences] == ["one", "two"]
