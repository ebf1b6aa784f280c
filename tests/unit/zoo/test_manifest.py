"""A manifest's mistakes come all at once with their lines; patterns never leave the root.

covers: calib.zoo.make_jobs, calib.zoo.sources
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.errors import CalibError, ConfigError, UsageError
from calib.zoo.make_jobs import ZooJob, make_jobs, select
from calib.zoo.manifest import EXAMPLE, json_schema, read_manifest
from calib.zoo.sources import find_models, matches, shown_name

DEFAULTS = "defaults: {calibration: data.npz}\n"


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder of empty model files in several layouts."""
    for name in (
        "a.xml",
        "b.xml",
        "deep/er/c.xml",
        "omz/public/net/FP32/net.xml",
        "omz/public/net/FP16/net.xml",
        "hf/bert/openvino_model.xml",
        "hf/bert/openvino_tokenizer.xml",
        "onnx/d.onnx",
        "more/e.tflite",
        "more/f.pdmodel",
        "more/saved/saved_model.pb",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    (folder / "zoo.yaml").write_text(text)
    return folder / "zoo.yaml"


def names(folder: Path, sources: str) -> list[str]:
    return [one.name for one in find_models(read_manifest(written(folder, DEFAULTS + "sources:\n" + sources)))]


def jobs(folder: Path, text: str) -> dict[str, ZooJob]:
    return {job.name: job for job in make_jobs(read_manifest(written(folder, text)))}


def mistakes(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        make_jobs(read_manifest(written(folder, text)))
    return caught.value.mistakes


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ("- glob: '*.xml'", ["a.xml", "b.xml"]),
        ("- {glob: '*.xml', exclude: b.xml}", ["a.xml"]),
        ("- glob: ['**/c.xml', a.xml]", ["a.xml", "deep/er/c.xml"]),
        ("- omz: omz", ["omz/public/net/FP32/net.xml"]),
        ("- {omz: omz, precision: FP16}", ["omz/public/net/FP16/net.xml"]),
        ("- huggingface: hf", ["hf/bert/openvino_model.xml"]),
        ("- onnx: '**/*.onnx'", ["onnx/d.onnx"]),
        ("- glob: ['more/*.tflite', '**/*.pdmodel']", ["more/e.tflite", "more/f.pdmodel"]),
        ("- {glob: '**/*.pb', exclude: other}", ["more/saved/saved_model.pb"]),
        ("- glob: a.xml\n- glob: '?.xml'", ["a.xml", "b.xml"]),
    ],
)
def test_each_kind_of_source_finds_its_models_once_and_in_order(zoo: Path, sources: str, found: list[str]):
    assert names(zoo, sources) == found


def test_a_list_file_names_models_below_the_root(zoo: Path):
    (zoo / "list.txt").write_text("# mine\n\na.xml\nonnx/d.onnx\nmore/e.tflite\n")
    assert names(zoo, "- list: list.txt") == ["a.xml", "more/e.tflite", "onnx/d.onnx"]
    (zoo / "list.txt").write_text("a.xml\n../a.xml\n")
    assert "leaves the root" in mistakes(zoo, DEFAULTS + "sources: [{list: list.txt}]")[0]


@pytest.mark.parametrize("pattern", ["../*.xml", "a/../../b.xml", "/etc/*.xml", "~/x.xml"])
def test_a_pattern_can_not_leave_the_root(zoo: Path, pattern: str):
    (found,) = mistakes(zoo, f"{DEFAULTS}sources:\n- glob: '{pattern}'")
    assert found.startswith("line 3: sources.0.glob: ") and "leaves the root" in found


def test_links_out_of_the_root_are_refused_and_circles_of_links_end(
    zoo: Path, tmp_path_factory: pytest.TempPathFactory
):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.xml").write_text("")
    (zoo / "deep" / "circle").symlink_to(zoo)
    (zoo / "inside.xml").symlink_to(zoo / "a.xml")
    (zoo / "folder").symlink_to(outside)
    assert names(zoo, "- glob: '**/[ais]*.xml'") == ["a.xml", "inside.xml"]
    (zoo / "link.xml").symlink_to(outside / "secret.xml")
    (found,) = mistakes(zoo, DEFAULTS + "sources: [{glob: '*.xml'}]")
    assert "link.xml is a link that leads out" in found


def test_all_mistakes_come_at_once_in_the_order_of_their_lines(zoo: Path):
    found = mistakes(
        zoo,
        """
sources:
  - glb: "*.xml"
  - {glob: "*.xml", omz: q}
defaults:
  max_drop: -1
  estimater: kl
  threads: 3
matrix:
  estimator: [kl, kll, kl]
  foo: [1]
overrides:
  - match: x
    samples: no
  - resources: {threads: 0, mem: 3}
resources:
  memory: 3 parsecs
""",
    )
    assert [one.partition(": ")[0] for one in found] == [
        "line 3", "line 4", "line 6", "line 7", "line 8", "line 10", "line 10", "line 11", "line 14",
        "line 15", "line 15", "line 15", "line 17",
    ]  # fmt: skip
    text = "\n".join(found)
    for part in (
        "did you mean glob?",
        "did you mean estimator?",
        "stand under resources",
        "'kll'",
        "match: is missing",
    ):
        assert part in text, part


def test_sources_that_name_nothing_and_overrides_that_match_nothing_are_mistakes(zoo: Path):
    assert "names no model" in mistakes(zoo, DEFAULTS + "sources: [{glob: nothing/*.xml}]")[0]
    text = DEFAULTS + "sources: [{glob: a.xml}]\noverrides:\n- match: z*\n  samples: 5"
    assert mistakes(zoo, text)[0].startswith("line 4: overrides.0.match: 'z*' matches no model")


def test_what_only_a_whole_job_shows_is_a_mistake_too(zoo: Path):
    (bare,) = mistakes(zoo, "sources: [{glob: '*.xml'}]")
    assert "no calibration data for" in bare and "a.xml" in bare  # one mistake for all models
    found = mistakes(zoo, "defaults: {calibration: d.npz, max_drop: 1}\nsources: [{glob: a.xml}]")
    assert "needs data with targets" in found[0]


def test_later_overrides_are_stronger_and_cells_of_the_matrix_strongest(zoo: Path):
    found = jobs(
        zoo,
        """
defaults: {calibration: data.npz, samples: 10, estimator: mse}
sources: [{glob: ['*.xml', '**/c.xml']}]
resources: {threads: 2, retries: 1}
matrix: {estimator: [kl, minmax]}
overrides:
- {match: '*', samples: 20}
- {match: deep/**, samples: 30, calibration: other.npz, resources: {threads: 1, memory: 1GiB}}
- {match: [c, nothing-b, b], salt: x}
""".replace("nothing-b, ", ""),
    )
    assert list(found) == [f"{name}/estimator={one}" for name in ("a", "b", "deep/er/c") for one in ("kl", "minmax")]
    job = found["deep/er/c/estimator=kl"]
    assert job.settings == {"samples": 30, "estimator": "kl", "salt": "x"}
    assert (job.calibration, job.threads, job.memory, job.retries) == ("other.npz", 1, 1 << 30, 1)
    assert found["a/estimator=minmax"].settings == {"samples": 20, "estimator": "minmax"}
    assert ZooJob.from_json(job.to_json()) == job


def test_shards_share_all_jobs_and_none_twice(zoo: Path):
    text = DEFAULTS + "sources: [{glob: '**/*.xml'}]\nmatrix: {estimator: [kl, mse]}"
    every = list(jobs(zoo, text).values())
    parts = [select(every, shard=f"{i}/3") for i in (1, 2, 3)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in every)
    models = [{job.pattern_name for job in part} for part in parts]
    assert sum(map(len, models)) == len(set.union(*models))  # the jobs of a model stay together
    assert [job.name for job in select(every, ["a/*=kl"])] == ["a/estimator=kl"]
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(UsageError, match="--shard"):
            select(every, shard=wrong)
    with pytest.raises(UsageError, match="--only nothing"):
        select(every, ["nothing"])


def test_the_schema_knows_settings_and_sources():
    schema = json_schema()
    assert {"sources", "defaults", "matrix", "overrides", "resources"} <= set(schema["properties"])
    assert {"calibration", "max_drop", "estimator"} <= set(schema["$defs"]["Defaults"]["properties"])


def test_the_shipped_manifest_has_a_job_for_each_demo_network():
    path = Path(__file__).parents[3] / "datasets" / "zoo.yaml"
    assert [job.name for job in make_jobs(read_manifest(path))] == ["mobilenet", "resnet", "vit"]


def test_a_model_is_called_by_its_folder_where_the_files_name_says_nothing():
    for name in ("org/bert/openvino_model", "org/bert/model"):
        assert shown_name(name) == "org/bert" and shown_name(f"{name}/effort=fast") == "org/bert/effort=fast"
        assert matches("org/*", f"{name}.xml") and matches("bert", f"{name}.xml")
    assert shown_name("openvino_model") == "openvino_model"  # it has no folder to be named after
    assert shown_name("org/model/net") == "org/model/net"


def test_the_example_is_a_manifest(tmp_path: Path):
    (tmp_path / "zoo.yaml").write_text(EXAMPLE)
    assert read_manifest(tmp_path / "zoo.yaml").manifest.overrides[0].metric == "top-1"


def test_a_key_in_the_wrong_block_is_told_where_it_belongs(zoo: Path):
    manifest = zoo / "zoo.yaml"
    manifest.write_text("sources: [{glob: a.xml, metric: top-1, fish: 1}]\nresources: {thread: 1}\n")
    with pytest.raises(ConfigError, match="metric: there is no such key; settings and data stand under defaults") as e:
        read_manifest(manifest)
    assert "fish: there is no such key; there are glob, onnx" in str(e.value) and "did you mean threads?" in str(
        e.value
    )
    manifest.write_text(DEFAULTS + "sources: [{glob: '**/*.xml'}]\noverrides: [{match: 'deeper/*', samples: 3}]\n")
    with pytest.raises(ConfigError, match=r"which name a, b, deep/er/c, …; [*] stays within one folder"):
        make_jobs(read_manifest(manifest))


_TEXT = st.text(alphabet="ab*?/.[]~\n-", max_size=12)


@given(pattern=_TEXT, name=_TEXT)
@settings(max_examples=100, derandomize=True, deadline=None)
def test_any_pattern_can_be_held_against_any_name(pattern: str, name: str):
    assert matches(pattern, name) in (True, False)


_KEYS = st.sampled_from(["glob", "list", "match", "samples", "threads", "estimator"])
_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab:", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=2),
    max_leaves=6,
)
_BLOCKS = st.sampled_from(["sources", "defaults", "matrix", "overrides", "resources", "root", "x"])


@given(data=st.dictionaries(_BLOCKS, _ANY))
@settings(max_examples=100, derandomize=True, deadline=None)
def test_no_manifest_brings_the_reader_down(tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(data))
    try:
        make_jobs(read_manifest(path))
    except CalibError as error:
        assert str(error)
