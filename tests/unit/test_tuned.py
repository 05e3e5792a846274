"""Tuned settings: whose they are, under what they lie, and where they are said to come from."""

from pathlib import Path

import pytest

from cloister import config
from cloister.config import tuned
from cloister.errors import ConfigError
from cloister.hardware import Hardware

H100 = Hardware("NVIDIA H100 80GB HBM3", 81559)
_MODEL = "nanonets/Nanonets-OCR2-3B"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuned, "project_root", lambda: tmp_path)
    (tmp_path / "tuned").mkdir()
    return tmp_path / "tuned"


def keep(path: Path, seqs: int, **parts: object) -> None:
    own = {"memory_mib": 81559, "model": _MODEL, "engine": "vllm-cuda", **parts}
    lines = [f"{key}: {value}" for key, value in own.items()]
    path.write_text("\n".join([*lines, "settings:", f"  vllm: {{max_num_seqs: {seqs}}}"]))


def found(*flags: str, there: Hardware | None = H100) -> config.Setting:
    loaded = config.load(
        flags=("engine=vllm-cuda", *flags),
        environ={"CLOISTER_CONFIG": "/dev/null"},
        hardware=lambda _: there,
    )
    return next(one for one in loaded.origins if one.key == "vllm.max_num_seqs")


def test_the_cards_own_goes_before_that_of_its_class(folder: Path) -> None:
    keep(folder / "80gb.yaml", 200, memory_mib=79000)
    keep(folder / "24gb.yaml", 80, memory_mib=22500)
    assert found().value == 200
    assert found(there=Hardware("NVIDIA L4", 23034)).value == 80
    assert found(there=Hardware("small", 8000)).origin == "default"
    assert found(there=Hardware("another", 22500)).value == 80, "of the very memory"
    keep(folder / "h100-1.yaml", 250, card=H100.name, made_at="2026-11-02")
    keep(folder / "h100-2.yaml", 240, card=H100.name, made_at="2026-11-01")
    assert found().value == 250, "the last one that was made"


def test_a_processor_is_of_no_class_of_cards(folder: Path) -> None:
    keep(folder / "24gb.yaml", 80, memory_mib=22500)
    assert found("engine=auto", there=Hardware("CPU, 2 cores", 24000, gpu=False)).value == 5


def test_what_a_user_sets_is_over_it(folder: Path) -> None:
    keep(folder / "a.yaml", 200, card=H100.name)
    assert found().value == 200
    assert found("vllm.max_num_seqs=7").value == 7


def test_it_is_over_the_models_profile(folder: Path) -> None:
    path = folder / "a.yaml"
    keep(path, 200, card=H100.name)
    path.write_text(path.read_text().replace("{max_num_seqs: 200}", "{max_pixels: 1003520}"))
    loaded = config.load(
        flags=("engine=vllm-cuda",),
        environ={"CLOISTER_CONFIG": "/dev/null"},
        hardware=lambda _: H100,
    )
    assert loaded.settings.vllm.max_pixels == 1_003_520
    assert loaded.settings.vllm.tie_word_embeddings is True, "the model's profile is there too"


@pytest.mark.parametrize(
    "flags", [("model.name=other/model",), ("engine=tesseract",), ("engine=vllm-cpu",)]
)
def test_another_model_or_engine_takes_nothing_and_asks_no_card(
    flags: tuple[str, ...], folder: Path
) -> None:
    keep(folder / "a.yaml", 200, card=H100.name)

    def never(_: str) -> Hardware | None:
        raise AssertionError("nvidia-smi takes a second")

    loaded = config.load(
        flags=("engine=vllm-cuda", *flags), environ={"CLOISTER_CONFIG": "/dev/null"}, hardware=never
    )
    assert loaded.settings.vllm.max_num_seqs == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "is no profile"),
        ("- a", "is no profile"),
        ("a: [", "cannot be read"),
        (f"model: {_MODEL}\nengine: vllm-cuda\nmemory_mib: 1", "no mapping `settings`"),
        (
            f"model: {_MODEL}\nengine: vllm-cuda\nmemory_mib: 1\nsettings: {{vllm: {{color: 1}}}}",
            r"`vllm\.color` in .*a\.yaml line 4 is not a known key",
        ),
    ],
)
def test_a_file_that_is_no_profile_says_so(text: str, said: str, folder: Path) -> None:
    (folder / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        found()
