"""What is done before `vllm serve` takes over the process."""

import subprocess
import sys
from pathlib import Path

import pytest

from cloister.engines.vllm.__main__ import fill_cache, find_model, let_import
from cloister.engines.vllm.options import MIDDLEWARE


def test_what_the_image_kept_is_where_vllm_looks(tmp_path: Path) -> None:
    kept, place = tmp_path / "kept", tmp_path / "cache" / "vllm"
    (kept / "modelinfos").mkdir(parents=True)
    (kept / "modelinfos" / "a.json").write_text("{}")
    (place / "modelinfos").mkdir(parents=True)
    fill_cache({"VLLM_CACHE_ROOT": str(place)}, kept)
    assert (place / "modelinfos" / "a.json").read_text() == "{}"


def test_without_what_is_kept_or_without_a_place_nothing_is_written(tmp_path: Path) -> None:
    place = tmp_path / "cache"
    fill_cache({"VLLM_CACHE_ROOT": str(place)}, tmp_path / "kept")
    (tmp_path / "kept").mkdir()
    fill_cache({}, tmp_path / "kept")
    assert not place.exists()


def test_a_folder_with_a_model_is_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "READY").touch()
    assert find_model(tmp_path) == tmp_path


@pytest.mark.parametrize("name", ["org/model", "model"])
def test_the_only_complete_model_of_a_store_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "1").mkdir(parents=True)
    (tmp_path / name / "2").mkdir()
    (tmp_path / name / "2" / "READY").touch()
    assert find_model(tmp_path) == tmp_path / name / "2"


def test_none_or_several_models_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model in"):
        find_model(tmp_path)
    for number in "12":
        (tmp_path / "org" / "model" / number).mkdir(parents=True)
        (tmp_path / "org" / "model" / number / "READY").touch()
    with pytest.raises(ValueError, match="several models"):
        find_model(tmp_path)


def test_vllm_finds_the_middleware_before_what_else_it_is_told(tmp_path: Path) -> None:
    for before, after in {"": f"{tmp_path}", f"/a:{tmp_path}": f"{tmp_path}:/a"}.items():
        environment = {"PYTHONPATH": before}
        let_import(environment, tmp_path)
        assert environment == {"PYTHONPATH": after}
    environment = {}
    let_import(environment)
    code = f"import {MIDDLEWARE.rpartition('.')[0]}"
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, check=True)
