"""The typed keyword arguments of ``quantize`` are its settings."""

from __future__ import annotations

import inspect
from typing import Literal, Unpack, get_args, get_origin, get_type_hints

import pytest

import calib
from calib.config import Settings
from calib.config.efforts import EFFORTS
from calib.config.given import GivenBesideMetric, GivenSettings

BESIDE = {"allow_extension"}  # taken with the settings, and none of them
HINTS = get_type_hints(GivenSettings)


def test_every_setting_is_a_keyword_argument_and_no_other_is():
    assert set(HINTS) == set(Settings.model_fields) | BESIDE


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_choices_are_those_of_the_setting(name: str):
    def choices(hint: object) -> set[object]:
        if get_origin(hint) is Literal:
            return set(get_args(hint))
        return {choice for part in get_args(hint) for choice in choices(part)}

    expected = set(EFFORTS) if name == "effort" else choices(Settings.model_fields[name].annotation)
    assert choices(HINTS[name]) == expected
    assert (bool in (HINTS[name], *get_args(HINTS[name]))) == (
        bool in (Settings.model_fields[name].annotation, *get_args(Settings.model_fields[name].annotation))
    )


@pytest.mark.parametrize("function", [calib.quantize, calib.plan, calib.inspect, calib.evaluate])
def test_the_functions_take_them(function: object):
    hints = get_type_hints(function)  # type: ignore[arg-type]
    takes_metric = "metric" in inspect.signature(function).parameters  # type: ignore[arg-type]
    assert hints["settings"] == Unpack[GivenBesideMetric if takes_metric else GivenSettings]
    assert "settings" in inspect.signature(function).parameters  # type: ignore[arg-type]
