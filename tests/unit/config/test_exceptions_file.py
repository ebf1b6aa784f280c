"""A file of operations to ignore, named in a config, a flag or a manifest."""

from __future__ import annotations

from pathlib import Path

import pytest

from calib.config import resolve
from calib.config.exceptions_file import with_files
from calib.errors import ConfigError


def written(folder: Path, text: str, name: str = "float.txt") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_config_names_a_file_beside_it_and_its_lines_are_the_patterns(tmp_path: Path):
    written(tmp_path / "here", "# the decoder\ntype:Add\n\n  re:head/  \n")
    config = written(tmp_path / "here", "ignore: [stem, 'file:float.txt']\n", "job.yaml")
    resolved = resolve(config=config)
    assert resolved.settings.ignore == ("stem", "type:Add", "re:head/")
    assert resolved.origins["ignore"] == f"--config {config}"
    shown = next(fact for fact in resolved.facts() if fact.key == "ignore")
    assert shown.value == ["stem", "type:Add", "re:head/"]  # so that a report and its job.yaml hold what was ignored


def test_a_flag_names_a_file_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path, "last")
    monkeypatch.chdir(tmp_path)
    assert resolve({"ignore": ("file:float.txt",)}).settings.ignore == ("last",)
    assert with_files("file:float.txt", tmp_path) == ["last"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("re:(\n", r"'re:\(' is no regular expression"), ("file:other.txt\n", "names another file, 'file:other.txt'")],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, words: str):
    with pytest.raises(ConfigError, match=words):
        resolve({"ignore": [f"file:{written(tmp_path, text)}"]})


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no\.txt: 1 mistake\n.*can't be read: No such file"):
        with_files(["file:no.txt"], tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        resolve({"ignore": [f"file:{tmp_path / 'binary.txt'}"]})
