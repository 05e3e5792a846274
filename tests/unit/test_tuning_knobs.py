"""The table of knobs, what of it cannot help on a machine, and how it becomes settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloister import config
from cloister.config.keys import leaves
from cloister.engines.vllm.memory import Need
from cloister.errors import ConfigError, TuningError
from cloister.hardware import Hardware
from cloister.loadtest import workload
from cloister.tuning import beginning, ceiling, knobs, pruning
from cloister.tuning.beginning import Wish
from cloister.tuning.server import Bench

H100 = Hardware("NVIDIA H100 80GB HBM3", 81559)
T4 = Hardware("Tesla T4", 15360)
# Nanonets-OCR2-3B: its files, and a page of 18,432 tokens at 36,864 bytes.
NEED = Need(weights_mib=7157, kv_mib=648, tokens=18432)


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)


def load(*flags: str) -> config.Settings:
    return config.load(flags=flags, environ={"CLOISTER_CONFIG": "/dev/null"}).settings


@pytest.mark.parametrize("engine", ["vllm-cuda", "vllm-cpu", "tesseract"])
def test_every_knob_of_the_table_is_a_setting_that_takes_its_values(engine: str) -> None:
    table = knobs.load(engine)
    for knob in table.knobs:
        assert knob.setting in leaves() or knob.setting.startswith("--")
        for value in knob.values:
            flags = knobs.as_settings({knob.setting: value})
            texts = (f"{key}={_text(value)}" for key, value in flags.items())
            load(f"engine={engine}", *texts)


def test_what_costs_something_is_turned_when_asked_for() -> None:
    table = knobs.load("vllm-cuda")
    names = {knob.setting for knob in table.without_costs().knobs}
    assert "vllm.quantization" not in names
    asked = table.without_costs(("vllm.quantization",))
    assert "vllm.quantization" in {knob.setting for knob in asked.knobs}
    with pytest.raises(TuningError, match=r"no knob `vllm\.color`"):
        table.without_costs(("vllm.color",))


def test_a_value_of_ones_own_takes_its_place_among_the_others() -> None:
    space = knobs.load("vllm-cuda").with_values({"vllm.gpu_memory_percent": 88, "--block-size": 32})
    memory = space.of("memory")
    assert memory is not None
    assert memory.values == (75, 80, 85, 88, 90, 93)
    assert space.first["vllm.gpu_memory_percent"] == 88
    assert space.first["--block-size"] == 32


def test_flags_join_those_that_are_set() -> None:
    found = knobs.as_settings(
        {"vllm.max_num_seqs": 64, "--stream-interval": 10},
        ("--block-size=32", "--stream-interval=4"),
    )
    assert found == {
        "vllm.max_num_seqs": 64,
        "vllm.flags": ["--block-size=32", "--stream-interval=10"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("vllm-cuda: 3", "vllm-cuda"),
        ("vllm-cuda: [{setting: vllm.eager, values: [], first: 1}]", "values"),
        ("vllm-cuda: [{setting: vllm.eager, values: [1], first: 2}]", "none of its values"),
        (
            "vllm-cuda: [{setting: vllm.eager, values: [a], first: a, role: memory}]",
            "whole numbers",
        ),
        ("vllm-cuda: [{setting: vllm.eager, values: [1], first: 1, color: red}]", "color"),
        ("vllm-cpu: []", "has no knobs for `vllm-cuda`"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_table_that_is_wrong_says_where(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "knobs.yaml"
    path.write_text(text)
    with pytest.raises(TuningError, match=said):
        knobs.load("vllm-cuda", path)


def test_what_cannot_start_or_help_is_pruned_with_the_arithmetic() -> None:
    table = knobs.load("vllm-cuda").without_costs()
    small = pruning.prune(table, T4, 4, NEED)
    assert small.space.of("replicas") == table.knobs[4].model_copy(update={"values": (1,)})
    assert any(
        line.startswith("engines.per_gpu=2: 93 / 2 % of 15,360 MiB is 7,065 MiB")
        and "7,157 weights + 648 KV" in line
        for line in small.lines
    )
    assert "vllm.api_server_count=8: 8 processes share 4 cores" in small.lines
    large = pruning.prune(table, H100, 16, NEED)
    assert large.space == table
    assert large.lines == ()
    assert pruning.fixed_percent(H100, NEED) == pytest.approx((7157 + 3072) * 100 / 81559)


def test_a_plan_for_another_machine_needs_none() -> None:
    wish = Wish(trials=("vllm.max_num_seqs=5", "vllm.max_num_seqs=64,vllm.eager=true"), turns=0)
    found = beginning.plan(load("engine=vllm-cuda"), wish, H100, workload.load("quick"))
    assert (found.starts, found.turns) == (2, 0)
    assert found.first["vllm.max_num_seqs"] == 5


def test_a_configuration_becomes_settings_of_one_replica() -> None:
    space = knobs.load("vllm-cpu").without_costs()
    made = Bench(load("engine=vllm-cpu", "replicas=3", "engines.weights=1,2,3"), space)
    found = made.settings({**space.first, "vllm.max_num_seqs": 7, "--stream-interval": 10})
    assert (found.replicas, found.engines.weights, found.healing.enabled) == (1, (), False)
    assert found.gateway.max_connections_per_address > 1000, "all clients have one address"
    assert found.vllm.max_num_seqs == 7
    assert found.vllm.flags == ("--stream-interval=10",)
    with pytest.raises(ConfigError, match="flags for speed"):
        made.settings({**space.first, "--trust-remote-code": 1})


def test_the_roofline_of_the_first_figures() -> None:
    """By hand, for 2,809 prompt and 800 output tokens on an H100, 128 at once.

    Vision 2 x 0.667e9 x 11,236 and prefill 2 x 3.086e9 x 2,809 FLOP at 791 TFLOP/s are 18.9 and
    21.9 ms; a step reads 7.50 GB of weights and 128 x 3,209 x 36,864 B of KV, 6.8 ms, 800 / 128
    times.
    """
    shape = ceiling.Shape(text=3.0857e9, vision=0.66666e9, kv_bytes=36864)
    card = ceiling.card(H100.name)
    assert card is not None
    bound = ceiling.ceiling(shape, card, at_once=128, prompt_tokens=2809, output_tokens=800)
    assert bound.vision_s == pytest.approx(0.0189, rel=0.01)
    assert bound.prefill_s == pytest.approx(0.0219, rel=0.01)
    assert bound.decode_s == pytest.approx(
        6.25 * (7.505e9 + 128 * 3209 * 36864) / 3.35e12, rel=0.01
    )
    assert bound.pages_per_s == pytest.approx(12.0, rel=0.01)
    assert ceiling.card("Quadro P400") is None


def test_a_models_shape_is_in_its_config() -> None:
    text: dict[str, Any] = {"hidden_size": 2048, "num_hidden_layers": 36, "vocab_size": 151936}
    text |= {"intermediate_size": 11008, "num_attention_heads": 16, "num_key_value_heads": 2}
    vision = {"hidden_size": 1280, "depth": 32, "intermediate_size": 3420}
    found = ceiling.shape({"text_config": text, "vision_config": vision})
    assert found is not None
    assert found.kv_bytes == 36864
    assert found.text == pytest.approx(3.086e9, rel=0.01), "3B: the published size without words in"
    assert found.vision == pytest.approx(0.667e9, rel=0.01), "0.67B: the published size"
    assert ceiling.shape({"text_config": text}) is None


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("Tesla T4", "T4"),
    ],
)
def test_cards_are_told_apart_by_whole_words(name: str, card: str) -> None:
    found = ceiling.card(name)
    assert found is not None
    assert found.name == card
