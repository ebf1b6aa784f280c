"""A zoo finds the Accuracy Checker configuration of each model, and explicit keys of the manifest win over it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from calib.errors import ConfigError
from calib.zoo.checked import found_by_itself, refusal, with_configuration
from calib.zoo.identity import Identity
from calib.zoo.make_jobs import ZooJob, make_jobs
from calib.zoo.manifest import read_manifest

DATASET = {
    "name": "d",
    "annotation_conversion": {"converter": "imagenet", "annotation_file": "val.txt"},
    "metrics": [{"type": "accuracy", "name": "top1"}, {"type": "accuracy", "name": "top2", "top_k": 2}],
}


class Forgetful:
    """A store that keeps no digest."""

    def digest(self, path: str, stamp: str) -> None:
        return None

    def keep_digest(self, path: str, stamp: str, digest: str) -> None:
        pass


def configuration(path: Path, adapter: str = "classification", **dataset: object) -> None:
    entry = {"launchers": [{"framework": "openvino", "adapter": adapter}], "datasets": [{**DATASET, **dataset}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"models": [{"name": "m", **entry}]}))


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """Two models in the layout of Open Model Zoo, one with a configuration in its folder, and a model elsewhere."""
    for name in ("public/net/FP32/net.xml", "public/bare/FP32/bare.xml", "other.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    configuration(tmp_path / "public" / "net" / "accuracy-check.yml")
    (tmp_path / "data").mkdir()
    return tmp_path


def jobs(folder: Path, text: str) -> dict[str, ZooJob]:
    (folder / "zoo.yaml").write_text(text)
    return {Path(job.model).stem: job for job in make_jobs(read_manifest(folder / "zoo.yaml"))}


def mistakes(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        jobs(folder, text)
    return "\n".join(caught.value.mistakes)


ALL = "sources: [{glob: '**/*.xml'}]\n"


def test_the_file_in_the_folder_of_the_model_is_found_and_said(zoo: Path):
    found = jobs(zoo, "defaults: {accuracy_check: {source: data}, max_drop: 0.01}\nsources: [{omz: public}]")
    net = found["net"]
    assert net.accuracy_check == {"source": "data", "file": "public/net/accuracy-check.yml"}
    assert found_by_itself(net).startswith(
        "accuracy_check: public/net/accuracy-check.yml was found by the model's name"
    )
    calibration, given = with_configuration(net)
    file = zoo / "public" / "net" / "accuracy-check.yml"
    assert calibration == given["validation"] and calibration.startswith(f"accuracy-check:{file}?source=")
    assert given["metric"].startswith("accuracy-check?file=")
    assert refusal(net) == ""
    assert "there is no accuracy-check.yml for public/bare/FP32/bare.xml" in refusal(found["bare"])
    assert ZooJob.from_json(net.to_json()) == net


def test_explicit_keys_win_and_a_model_without_a_file_is_calibrated_as_the_manifest_says(zoo: Path):
    found = jobs(zoo, f"defaults: {{accuracy_check: {{source: data}}, calibration: c.npz, metric: agreement}}\n{ALL}")
    calibration, given = with_configuration(found["net"])
    assert calibration == "c.npz" and given["metric"] == "agreement"
    assert given["validation"].startswith("accuracy-check:")
    assert "but calibration and metric as the manifest says" in found_by_itself(found["net"])
    for name in ("bare", "other"):
        assert found[name].accuracy_check == {} and with_configuration(found[name]) == ("c.npz", {})


def test_overrides_replace_single_keys_and_null_turns_it_off(zoo: Path):
    configuration(zoo / "mine.yml", "nonsense")
    text = f"""
defaults: {{accuracy_check: {{source: data, metric: top2}}}}
{ALL}
overrides:
- {{match: other, accuracy_check: {{file: mine.yml}}}}
- {{match: bare, accuracy_check: null, calibration: c.npz}}
"""
    found = jobs(zoo, text)
    assert found["other"].accuracy_check == {"source": "data", "metric": "top2", "file": "mine.yml"}
    assert found_by_itself(found["other"]) == "" and "adapter 'nonsense'" in refusal(found["other"])
    assert found["bare"].accuracy_check == {}
    assert with_configuration(found["net"])[1]["metric"].endswith("metric=top2")


def test_a_folder_of_configurations_is_searched_for_the_name_of_the_model(zoo: Path):
    configuration(zoo / "models" / "intel" / "bare" / "accuracy-check.yml")
    found = jobs(zoo, f"defaults: {{accuracy_check: {{source: data, file: models}}}}\n{ALL}")
    assert found["bare"].accuracy_check["file"] == "models/intel/bare/accuracy-check.yml"
    assert found_by_itself(found["bare"]) and "file" not in found["net"].accuracy_check


def test_a_link_that_leads_out_of_the_root_is_not_found(zoo: Path, tmp_path_factory: pytest.TempPathFactory):
    outside = tmp_path_factory.mktemp("outside") / "accuracy-check.yml"
    configuration(outside)
    (zoo / "public" / "bare" / "accuracy-check.yml").symlink_to(outside)
    found = jobs(zoo, f"defaults: {{accuracy_check: {{source: data}}}}\n{ALL}")
    assert "file" not in found["bare"].accuracy_check


def test_all_that_is_not_supported_is_in_the_refusal(zoo: Path):
    configuration(zoo / "public" / "net" / "accuracy-check.yml", "narnmt", metrics=[{"type": "bleu"}], reader="wav")
    why = refusal(jobs(zoo, f"defaults: {{accuracy_check: {{source: data}}}}\n{ALL}")["net"])
    for words in ("adapter 'narnmt'", "metric 'bleu'", "reader 'wav'", "public/net/accuracy-check.yml"):
        assert words in why, words
    assert "\n" not in why


def test_mistakes_of_the_block_name_their_place_and_the_way_out(zoo: Path):
    found = mistakes(zoo, f"defaults: {{accuracy_check: {{sourc: data}}}}\n{ALL}")
    assert "defaults.accuracy_check.sourc: there is no such key; did you mean source?" in found
    assert "accuracy_check needs source" in mistakes(zoo, f"defaults: {{accuracy_check: {{}}}}\n{ALL}")
    assert "lies in the folders of 1: give accuracy_check: {source: DIR}" in mistakes(zoo, ALL)


def test_what_the_files_hold_is_of_the_job(zoo: Path):
    def key() -> str:
        text = f"defaults: {{accuracy_check: {{source: data, definitions: definitions.yml}}}}\n{ALL}"
        job = jobs(zoo, text)["net"]
        assert Identity(Forgetful()).family(job) != Identity(Forgetful()).family(replace(job, accuracy_check={}))
        return Identity(Forgetful()).key(job)

    (zoo / "classes.json").write_text("{}")
    (zoo / "definitions.yml").write_text("datasets:\n- {name: d, dataset_meta_file: classes.json}\n")
    keys = [key()]
    assert key() == keys[0]
    configuration(zoo / "public" / "net" / "accuracy-check.yml", preprocessing=[{"type": "resize", "size": 4}])
    keys.append(key())
    (zoo / "definitions.yml").write_text("datasets:\n- {name: d, dataset_meta_file: 'classes.json', reader: x}\n")
    keys.append(key())
    (zoo / "classes.json").write_text('{"label_map": {}}')
    keys.append(key())
    (zoo / "data" / "val.txt").write_text("a.png 0\n")
    keys.append(key())
    os.utime(zoo / "data" / "val.txt", (1e9, 1e9))
    keys.append(key())
    assert len(set(keys)) == len(keys)
