"""The topics of ``calib help``: whole, made from the tables, and readable in 80 columns.

covers: calib.cli.decoders
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import click
import pytest
from click.testing import CliRunner

import calib
from calib import errors
from calib.cli import COMMANDS, EXIT_CODES, main
from calib.cli.help import TOPICS, first_line, reflow
from calib.config import Preprocessing, Settings
from calib.config.efforts import EFFORTS
from calib.corrections import CORRECTIONS
from calib.graph.layers import LAYERS
from calib.graph.operations import LEFT_ALONE, RECURRENT, WRITTEN_OUT
from calib.graph.recurrent import BOTH_WAYS, IN_FLOAT, LATE_RESET
from calib.metrics import METRICS
from calib.outputs import DECODERS
from calib.outputs.resolve import known_options
from calib.ranges import ESTIMATORS
from calib.report.escape import columns_of
from calib.samples import FORMATS
from calib.values.distribution import USES, extras
from calib.zoo.manifest import Manifest


def shown(topic: str, width: int = 80) -> str:
    """Return a topic's text with every break between words as one space."""
    return " ".join("\n".join(TOPICS[topic].lines(width, False)).split())


def descriptions(model: Any) -> list[str]:
    return [part for name, field in model.model_fields.items() for part in (name, field.description) if part]


# topic → what has to stand in it
HELD: dict[str, Callable[[], Iterable[str]]] = {
    "settings": lambda: [*descriptions(Settings), *descriptions(Preprocessing)],
    "efforts": lambda: [*EFFORTS, *(effort.does for effort in EFFORTS.values()), "balanced (default)"],
    "estimators": lambda: ESTIMATORS,
    "corrections": lambda: CORRECTIONS,
    "search": lambda: ["Everything in INT8"],
    "metrics": lambda: METRICS,
    "decoders": lambda: [
        *DECODERS, *(key for name in DECODERS for key in known_options(name)), "Defaults of its own: score=0.01, nms",
    ],
    "data": lambda: [*FORMATS, *(row.sentence for row in FORMATS.values())],
    "operations": lambda: [
        *LAYERS, *LEFT_ALONE, *LEFT_ALONE.values(), *(row.never for row in LAYERS.values()),
        *RECURRENT, IN_FLOAT, LATE_RESET, BOTH_WAYS,
        *WRITTEN_OUT, *(str(refusal) for rows in WRITTEN_OUT.values() for refusal in rows.values()),
    ],
    "ignore": lambda: ["NAME:", "NODE:OUTPUT:", "type:TYPE:", "re:REGEX:", "subgraph:IN,IN...OUT,OUT:", "file:FILE:"],
    "manifest": lambda: [name for name, field in Manifest.model_fields.items() if name != "version"],
    "python": lambda: calib.PUBLIC.keys() - set(vars(errors)),
    "errors": lambda: [kind for kind in vars(errors) if kind.endswith("Error")],
    "exit-codes": lambda: [" ".join(line.split()) for line in EXIT_CODES.splitlines()[2:]],
    "extras": lambda: [part for extra, use in USES.items() for part in (use, *extras()[extra].values())],
}  # fmt: skip


def test_every_topic_is_asked_for_here():
    assert list(HELD) == list(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_holds_every_row_of_its_table(topic: str):
    text = shown(topic)
    assert [row for row in HELD[topic]() if " ".join(row.split()) not in text] == []


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_fits_the_terminal_and_shows_no_marks_of_docstrings(topic: str, width: int):
    lines = TOPICS[topic].lines(width, False)
    assert lines and max(map(columns_of, lines)) <= width
    assert not any(mark in line for line in lines for mark in ("``", ":class:", ":func:", ":meth:"))


def test_a_new_row_of_a_table_is_explained_at_once(monkeypatch: pytest.MonkeyPatch):
    class Halved:
        """The half of the extremes."""

        name = "halved"

    monkeypatch.setitem(ESTIMATORS, "halved", Halved())  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(FORMATS, "rolls", replace(FORMATS["npz"], sentence="rolls of punched paper"))
    monkeypatch.setitem(LAYERS, "Bucketize", replace(LAYERS["MatMul"], type="Bucketize", never="nobody has tried"))
    monkeypatch.setitem(EFFORTS, "lavish", replace(EFFORTS["thorough"], does="everything twice", held_out=96))
    assert "halved The half of the extremes." in shown("estimators")
    assert "rolls of punched paper" in shown("data")
    assert "Bucketize floating point: nobody has tried" in shown("operations")
    assert "everything twice" in shown("efforts") and "96 held-out samples" in shown("efforts")


def test_estimators_of_one_class_are_told_apart():
    assert "holds 99.99 percent of" in shown("estimators") and "holds 99.9 percent of" in shown("estimators")


def test_who_wins_is_said_first_and_names_every_source_in_order():
    text = shown("settings").partition("key default")[0].lower()
    sources = ("flag", "--set", "--config", "rt_info", "default")
    places = [text.find(source) for source in sources]
    assert -1 not in places and places == sorted(places), text


def called(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments, prog_name="calib", env={"COLUMNS": "80"})


def test_without_a_topic_they_are_listed():
    listed = called("help")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()[2 : 2 + len(TOPICS)]] == list(TOPICS)


def test_a_topic_is_printed():
    assert called("help", "exit-codes").stdout == "\n".join(TOPICS["exit-codes"].lines(80, False)) + "\n"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in TOPICS])
def test_a_command_is_a_topic_too(name: str):
    assert called("help", name).stdout == called(name, "--help").stdout


@pytest.mark.parametrize(
    ("word", "near"),
    [("estimator", " (did you mean estimators?)"), ("Exit_Codes", " (did you mean exit-codes?)"),
     ("quantise", " (did you mean quantize?)"), ("xyzzy", "")],
)  # fmt: skip
def test_an_unknown_topic_is_wrong_usage_and_names_the_nearest(word: str, near: str):
    ended = called("help", word)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr == f"error: there is no help on {word!r}{near}; 'calib help' lists the topics\n"


def test_the_list_of_topics_loads_neither_numpy_nor_openvino():
    code = (
        "import sys\n"
        "from calib.cli import main\n"
        "try: main(['help'])\n"
        "except SystemExit: pass\n"
        "print('LOADED', sorted({'openvino', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_reflow_joins_paragraphs_and_keeps_lists_and_sections():
    text = """First ``line`` of
    a paragraph.

    1. One that is long
       enough.

    Args:
        model: of :class:`calib.Thing`, and
            more.
        data: short.
    """
    assert reflow(text, 24) == [
        *("First line of a", "paragraph.", "", "1. One that is long", "   enough.", "", "Args:"),
        *("    model: of", "        calib.Thing, and", "        more.", "    data: short."),
    ]


def test_first_line_of_what_has_no_docstring_is_empty():
    assert first_line(click.Group("nothing")) != "" and first_line(lambda: None) == ""
