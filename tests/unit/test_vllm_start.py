"""What is done before `vllm serve` takes over the process."""

from pathlib import Path

from cloister.engines.vllm.__main__ import fill_cache


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
