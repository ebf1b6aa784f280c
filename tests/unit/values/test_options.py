"""Options behind the ``?`` of a name or a path."""

from __future__ import annotations

from calib.values.options import options_in


def test_a_plus_sign_is_one_and_other_characters_may_be_written_as_their_code():
    assert options_in("a=c++&b=1%202&c=%2B%26&d=") == [("a", "c++"), ("b", "1 2"), ("c", "+&"), ("d", "")]
    assert options_in("") == []
