"""Settings as flags: each reaches the settings as it was typed, and only if it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from calib.cli import Verbosity
from calib.cli import main as root
from calib.cli.options import _SWITCHES, json_flag, progress, remark, setting_flags, source_flags, typed
from calib.config import Fallback, Settings, resolve
from calib.progress import silent
from calib.progress_shown import Shown


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


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name, those of groups too."""
    open_ends: list[tuple[str, click.Command]] = [("calib", root)]
    while open_ends:
        name, command = open_ends.pop()
        yield name, command
        if isinstance(command, click.Group):
            ctx = click.Context(command)
            found = ((one, command.get_command(ctx, one)) for one in command.list_commands(ctx))
            open_ends += [(f"{name} {one}", sub) for one, sub in found if sub is not None]


FIELDS = Settings.model_fields
BOOLEAN = [name for name in FIELDS if bool in (FIELDS[name].annotation, *get_args(FIELDS[name].annotation))]
SWITCHES = [
    (f"{name} {option.opts[0]}", option)
    for name, command in commands()
    for option in command.params
    if isinstance(option, click.Option) and option.is_flag and option.secondary_opts
]


def test_the_settings_that_are_true_or_false_are_these():
    assert sorted(BOOLEAN) == ["complete", "higher_is_better", "knee", "normalize", "optimize_speed", "speed"]


@pytest.mark.parametrize("name", BOOLEAN)
def test_a_setting_that_is_true_or_false_is_a_pair_of_flags(name: str):
    with pytest.raises(click.UsageError):
        parsed(f"--{name.replace('_', '-')}", "true")


@pytest.mark.parametrize(("name", "option"), SWITCHES, ids=[name for name, _ in SWITCHES])
def test_a_pair_of_flags_that_is_not_given_has_no_say(name: str, option: click.Option):
    # --report and --open are no settings, so there is nothing that their defaults could overrule
    assert option.name in ("page", "browser") or option.get_default(click.Context(click.Command("calib"))) is None


@pytest.mark.parametrize("fallback", [True, False])
@pytest.mark.parametrize("name", BOOLEAN)
@pytest.mark.parametrize("typed_value", [None, True, False])
@pytest.mark.parametrize("in_set", [None, True, False])
@pytest.mark.parametrize("in_file", [None, True, False])
def test_the_strongest_that_is_given_decides_whether_it_is_true_or_false(
    name: str, typed_value: bool | None, in_set: bool | None, in_file: bool | None, fallback: bool, tmp_path: Path
):
    flag = name.replace("_", "-")
    positive, _, negative = _SWITCHES.get(name, f"--{flag}/--no-{flag}").partition("/")
    flags: dict[str, Any] = {name: Fallback(fallback)}
    flags |= {} if typed_value is None else parsed(positive if typed_value else negative)
    config = tmp_path / "job.yaml"
    config.write_text("samples: 5\n" + (f"{name}: {json.dumps(in_file)}\n" if in_file is not None else ""))
    sets = [] if in_set is None else [f"{name}={json.dumps(in_set)}"]
    resolved = resolve(flags, sets, config)
    sources = [("flag", typed_value), ("--set", in_set), (f"--config {config}", in_file), ("default", fallback)]
    origin, value = next(one for one in sources if one[1] is not None)
    fact = next(fact for fact in resolved.facts() if fact.key == name)
    assert (fact.value, fact.origin) == (value, origin)


def test_quiet_silences_progress_and_remarks(capsys: pytest.CaptureFixture[str]):
    for quiet in (True, False):
        ctx = click.Context(click.Command("calib"), obj=Verbosity(quiet=quiet))
        assert progress(ctx) is silent if quiet else isinstance(progress(ctx), Shown)
        remark(ctx, "a remark")
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err == ("" if quiet else "a remark\n")
