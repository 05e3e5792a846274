"""Model profiles: parts of cloister.yaml that lie under the user's own sources."""

from pathlib import Path

import pytest

from cloister import config
from cloister.config import profiles
from cloister.errors import ConfigError


def load(*flags: str) -> config.Loaded:
    return config.load(flags=flags, environ={"CLOISTER_CONFIG": "/dev/null"})


@pytest.mark.parametrize("name", sorted(profiles.profiles()))
def test_every_profile_is_valid_and_is_applied_to_its_model(name: str) -> None:
    loaded = load(f"model.name={name}")
    origins = {item.key: item.origin for item in loaded.origins}
    path, reading = profiles.profiles()[name]
    for key in reading.values.keys() - {"model.name"}:
        assert origins[key].startswith(f"profiles/{path.name} line "), key
    assert {"ocr.prompt", "ocr.max_tokens", "ocr.temperature", "vllm.max_pixels"} <= origins.keys()
    vllm, ocr = loaded.settings.vllm, loaded.settings.ocr
    assert vllm.max_pixels // 784 + len(ocr.prompt) // 3 + ocr.max_tokens <= vllm.max_model_len


def test_the_user_has_the_last_word() -> None:
    loaded = load("ocr.max_tokens=99", "vllm.tie_word_embeddings=null").settings
    assert loaded.ocr.max_tokens == 99
    assert loaded.vllm.tie_word_embeddings is None
    assert loaded.ocr.prompt.startswith("Extract the text from the above document")


def test_a_model_without_a_profile_has_the_defaults() -> None:
    assert load("model.name=acme/Reader").settings.ocr == config.Settings().ocr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ocr: {dpi: 100}\n", "no `model.name`"),
        ("model: {name: nanonets/Nanonets-OCR2-3B}\n", "both for"),
        ("model: {name: acme/X}\nocr: {dpy: 100}\n", "did you mean `ocr.dpi`"),
    ],
)
def test_a_wrong_profile_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    root = config.project_root()
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "a.yaml").write_bytes(
        (root / "profiles" / "nanonets-ocr2-3b.yaml").read_bytes()
    )
    (tmp_path / "profiles" / "b.yaml").write_text(text)
    monkeypatch.setattr(profiles, "project_root", lambda: tmp_path)
    with pytest.raises(ConfigError) as caught:
        load("model.name=acme/X")
    assert words in str(caught.value)


def test_dummy_weights_have_to_be_called_noise() -> None:
    with pytest.raises(ConfigError, match="synthetic"):
        load("vllm.load_format=dummy")
    assert load("vllm.load_format=dummy", "model.synthetic=true").settings.model.synthetic
