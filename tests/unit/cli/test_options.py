"""Settings as flags: each reaches the settings as it was typed, and only if it was."""

from __future__ import annotations

from typing import Any

import click
import pytest

from calib.cli import Verbosity
from calib.cli.options import json_flag, progress, remark, setting_flags, source_flags, typed
from calib.config import Settings, resolve
from calib.progress import bars, silent


def parsed(*arguments: str) -> dict[str, Any]:
    """Run a command with every setting as a flag; return what was typed."""
    found: dict[str, Any] = {}

    @click.command()
    @setting_flags(*(name for name in Settings.model_fields if name not in ("preprocessing", "salt")))
    @source_flags
    @json_flag
    @click.pass_context
    def command(ctx: click.Context, **options: Any) -> None:
        found.update(typed(ctx, options))

    command.main(list(arguments), standalone_mode=False)
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {}),
        (("--no-speed",), {"speed": False}),
        (("--speed",), {"speed": True}),
        (("--lower-is-better",), {"higher_is_better": False}),
        (("--max-drop", "0"), {"max_drop": "0"}),
        (("--ignore", "a", "--ignore", "type:MatMul"), {"ignore": ("a", "type:MatMul")}),
        (("--set", "speed=false", "--config", "c.yaml"), {"sets": ("speed=false",), "config": "c.yaml"}),
    ],
)
def test_what_is_typed_arrives_and_nothing_else(arguments: tuple[str, ...], expected: dict[str, Any]):
    assert parsed(*arguments) == expected


def test_text_of_flags_becomes_what_the_setting_is():
    flags = parsed("--max-drop", "0.01", "--time-limit", "2h", "--no-speed", "--effort", "fast", "--samples", "7")
    settings = resolve(flags=flags).settings
    assert (settings.max_drop, settings.time_limit, settings.speed) == (0.01, 7200, False)
    assert (settings.effort, settings.samples) == ("fast", 7)


def test_a_setting_that_is_true_or_false_is_a_pair_of_flags():
    switches = [
        name for name, field in Settings.model_fields.items() if bool in getattr(field.annotation, "__args__", ())
    ]
    assert sorted(switches) == ["higher_is_better", "speed"]
    for name in switches:
        with pytest.raises(click.UsageError):
            parsed(f"--{name.replace('_', '-')}", "true")


def test_quiet_silences_progress_and_remarks(capsys: pytest.CaptureFixture[str]):
    for quiet in (True, False):
        ctx = click.Context(click.Command("calib"), obj=Verbosity(quiet=quiet))
        assert progress(ctx) is (silent if quiet else bars)
        remark(ctx, "a remark")
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err == ("" if quiet else "a remark\n")
