"""What a model needs of a card, from its files."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloister.engines.vllm import memory
from cloister.engines.vllm.memory import OVERHEAD_MIB, Need, estimate, kv_bytes_per_token

# Those of Qwen2.5-VL-3B, of which Nanonets-OCR2-3B is made.
TEXT = {
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "hidden_size": 2048,
}
MIB = 1 << 20


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in TEXT.items() if name not in names}


def model(folder: Path, config: object, *sizes: int) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    for number, size in enumerate(sizes):
        with (folder / f"model-{number}.safetensors").open("wb") as file:
            file.truncate(size)
    return folder


def test_the_sum_is_spelled_out() -> None:
    found = Need(weights_mib=7180, kv_mib=648, overhead_mib=2048, tokens=18432)
    assert found.total_mib == 9876
    assert str(found) == (
        "7,180 weights + 648 KV for one page of 18,432 tokens + 2,048 overhead = 9,876 MiB"
    )


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (TEXT, 36864),
        ({"text_config": TEXT}, 36864),
        ({**TEXT, "num_hidden_layers": 1, "text_config": TEXT}, 36864),
        ({**TEXT, "text_config": {"head_dim": 64}}, 18432),
        ({**TEXT, "text_config": None}, 36864),
        ({**TEXT, "head_dim": 256}, 73728),
        ({**TEXT, "head_dim": None}, 36864),
        ({**without("hidden_size"), "head_dim": 128}, 36864),
        (without("num_key_value_heads"), 8 * 36864),
        # Qwen2.5-VL-7B, of which olmOCR-2 is made.
        (
            {
                "num_hidden_layers": 28,
                "num_attention_heads": 28,
                "num_key_value_heads": 4,
                "hidden_size": 3584,
            },
            57344,
        ),
    ],
)
def test_a_token_takes_a_key_and_a_value_of_each_layer(config: dict[str, Any], size: int) -> None:
    assert kv_bytes_per_token(config) == size


@pytest.mark.parametrize(
    "config",
    [
        {},
        without("num_hidden_layers"),
        without("hidden_size"),
        without("num_attention_heads"),
        {**TEXT, "num_hidden_layers": "36"},
        {**TEXT, "num_hidden_layers": True},
        {**TEXT, "hidden_size": 2048.0},
        {**TEXT, "num_hidden_layers": 0},
        {**TEXT, "num_attention_heads": 4096},
        {"vision_config": TEXT},
    ],
)
def test_without_the_figures_nothing_is_told(config: dict[str, Any]) -> None:
    assert kv_bytes_per_token(config) is None
    assert estimate(1, config, 18432) is None


def test_a_part_of_a_mebibyte_counts_as_a_whole() -> None:
    assert estimate(7 * MIB + 1, TEXT, 18432) == Need(8, 648, OVERHEAD_MIB, 18432)
    assert estimate(0, TEXT, 1) == Need(0, 1, OVERHEAD_MIB, 1)


def test_a_folder_counts_all_its_shards_and_nothing_else(tmp_path: Path) -> None:
    folder = model(tmp_path, {"text_config": TEXT}, 3 * MIB, 2 * MIB)
    (folder / "tokenizer.json").write_bytes(b" " * MIB)
    assert memory.need(folder, 18432) == Need(5, 648, OVERHEAD_MIB, 18432)


def test_weights_that_are_not_there_count_as_nothing(tmp_path: Path) -> None:
    assert memory.need(model(tmp_path, TEXT), 18432) == Need(0, 648, OVERHEAD_MIB, 18432)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", "\xff", "[" * 200_000])
def test_a_damaged_config_tells_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    assert memory.need(tmp_path, 18432) is None


def test_no_folder_tells_nothing(tmp_path: Path) -> None:
    assert memory.need(tmp_path / "absent", 18432) is None
