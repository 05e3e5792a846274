"""The profiles that ship: made again, compared with their files, and loaded as settings."""

import os
from pathlib import Path

import pytest

from cloister import config, corpus
from cloister.engines.vllm.memory import estimate
from cloister.errors import TuningError
from cloister.gpus import Card
from cloister.loadtest import workload
from cloister.loadtest.workload import OutputLengths
from cloister.tuning import ceiling, fitting, mix, profile, shapes, starting_points
from cloister.tuning.profile import Profile
from cloister.tuning.starting_points import CLASSES

MADE = {profile.name(one): one for one in starting_points.profiles()}
VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420}
SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers")
HEADS = ("num_attention_heads", "num_key_value_heads", "vocab_size", "vision_config")
QWEN_3B, QWEN_7B = (
    dict(zip((*SHAPE, *HEADS), (*figures, VISION), strict=True))
    for figures in ((2048, 11008, 36, 16, 2, 151936), (3584, 18944, 28, 28, 4, 152064))
)
DOCS = config.project_root() / "docs" / "tuning.md"


@pytest.mark.parametrize("name", MADE)
def test_the_shipped_files_are_what_is_made(name: str, tmp_path: Path) -> None:
    shipped = profile.folder() / f"{name}.yaml"
    if os.environ.get("CLOISTER_REGENERATE") == "1":
        profile.write(MADE[name], profile.folder())
        pytest.fail(f"rewrote {shipped}; look at the difference and run without the variable")
    made = profile.write(MADE[name], tmp_path)
    assert made.read_text() == shipped.read_text()
    assert profile.read(shipped) == MADE[name]


def test_no_other_file_is_unmeasured() -> None:
    names = {name for name, one in fitting.shelf().items() if not one.measured}
    assert names == set(MADE)
    assert [name.partition("--")[0] for name in MADE] == ["16gb", "24gb", "40gb", "48gb", "80gb"]


@pytest.mark.parametrize("one", fitting.shelf().values(), ids=fitting.shelf())
def test_the_settings_of_every_profile_are_keys_of_the_configuration(one: Profile) -> None:
    settings = fitting.settings(one)
    for section, keys in one.settings.items():
        for key, value in keys.items():
            found = getattr(getattr(settings, section), key)
            assert (list(found) if isinstance(found, tuple) else found) == value


@pytest.mark.parametrize("one", MADE.values(), ids=MADE)
def test_one_replica_fits_and_so_do_its_pages(one: Profile) -> None:
    settings = fitting.settings(one).vllm
    share = one.memory_mib * settings.gpu_memory_percent // 100
    need = estimate(7157 << 20, QWEN_3B, settings.max_model_len)
    assert need is not None
    assert need.kv_mib == 648
    assert need.total_mib < share
    kv_mib = share - need.weights_mib - need.overhead_mib
    assert settings.max_num_seqs * 3500 * 36864 <= kv_mib << 20
    assert one.pages_per_s.low == pytest.approx(one.pages_per_s.value / 2)
    assert one.pages_per_s.high == pytest.approx(one.pages_per_s.value * 2)
    assert (one.pages_per_s.n, one.measured) == (0, False)
    assert one.why.startswith("Not measured.")


def test_the_arithmetic_by_hand() -> None:
    small = MADE["16gb--nanonets-ocr2-3b--unmeasured"]
    # 15,000 x 0.9 - 7,157 - 3,072 = 3,271 MiB; 3,500 x 36,864 B = 123.05 MiB; 26.6 pages.
    assert small.settings["vllm"]["max_num_seqs"] == 24
    assert "3,271 MiB of KV memory for 26 pages" in small.why
    assert "no bf16" in small.why
    largest = MADE["80gb--nanonets-ocr2-3b--unmeasured"]
    assert largest.settings["vllm"]["max_num_seqs"] == 256


def test_no_more_pages_at_once_than_gain_something() -> None:
    def flat(seqs: int) -> float:
        return min(seqs, 40.0)

    assert starting_points._seqs(500, flat) == 72, "38 at once serve 40 / 38 of half as many"
    assert starting_points._seqs(500, float) == 256
    assert starting_points._seqs(31, float) == 24
    assert starting_points._seqs(3, float) == 1


def test_the_docs_have_the_figures() -> None:
    text = DOCS.read_text()
    for name, one in MADE.items():
        size, rate = name.partition("gb")[0], one.pages_per_s
        seqs = one.settings["vllm"]["max_num_seqs"]
        ends = f"({rate.low + 1e-9:.2f} to {rate.high:.2f})"
        assert f"| {size} GB | {seqs} | {rate.value:.2f} {ends} |" in text


def test_the_known_shapes_are_those_of_config_json() -> None:
    assert shapes.SHAPES["nanonets/Nanonets-OCR2-3B"] == ceiling.shape(QWEN_3B)
    assert shapes.SHAPES["allenai/olmOCR-2-7B-1025"] == ceiling.shape(QWEN_7B)


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.memory_mib)
def test_every_common_card_is_known(one: starting_points.Class) -> None:
    assert all(ceiling.card(name) for name in one.cards)


@pytest.mark.parametrize(
    ("lengths", "mean"),
    [
        (OutputLengths(median=700, sigma=0, least=1, most=3000), 700),
        (OutputLengths(median=700, sigma=0, least=1, most=300), 300),
        (OutputLengths(median=700, sigma=0, least=900, most=3000), 900),
        # Uncut: median x exp(sigma^2 / 2).
        (OutputLengths(median=1000, sigma=0.5, least=1, most=1_000_000), 1133.15),
        # All of it above or below an end.
        (OutputLengths(median=10, sigma=0.1, least=500, most=900), 500),
        (OutputLengths(median=9000, sigma=0.1, least=5, most=900), 900),
        (OutputLengths(median=500, sigma=0.6, least=900, most=400), 400),
    ],
)
def test_the_mean_of_cut_lengths(lengths: OutputLengths, mean: float) -> None:
    assert mix.output_tokens(lengths) == pytest.approx(mean, abs=0.01)


def test_the_mean_page_by_hand() -> None:
    made = workload.load("receipts").model_copy(
        update={
            "kinds": {"letter": 3, "receipt": 1},
            "dpi": {100: 1},
            "output_tokens": OutputLengths(median=50, sigma=0),
        }
    )
    # A4 at 100 dpi: 62,370 / 25.4^2 x 100^2 / 28^2 = 1,233 tokens; a till roll 166.
    page = mix.pages("x", made, 10_000_000)
    assert page.prompt_tokens == pytest.approx((3 * 1233.1 + 166.1) / 4 + 160, abs=0.1)
    assert page.output_tokens == 64
    scaled = mix.pages("x", made, 28 * 28 * 400)
    assert scaled.prompt_tokens == pytest.approx((3 * 400 + 166.1) / 4 + 160, abs=0.1)


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_the_pages_of_a_kind_are_as_large_as_said(kind: str) -> None:
    areas = []
    for seed in range(12):
        drawn = corpus.render(corpus.generate(kind, seed).pdf, 0, 50)
        areas.append(drawn.width * drawn.height * (25.4 / 50) ** 2)
    said = mix._PAPER_MM2.get(kind, mix._A4_MM2)
    assert sum(areas) / len(areas) == pytest.approx(said, rel=0.05)


def measured(card: str, memory_mib: int, **changes: object) -> Profile:
    base = MADE["80gb--nanonets-ocr2-3b--unmeasured"]
    own = {"card": card, "memory_mib": memory_mib, "measured": True, "engine_version": "0.32"}
    return base.model_copy(update={**own, **changes})


H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"
SHELF = {
    **MADE,
    **{
        profile.name(one): one
        for one in (
            measured(H100, 81559, made_at="2026-01-01"),
            measured(H100, 81559, made_at="2026-05-05", engine_version="0.33"),
            measured("NVIDIA A100-SXM4-40GB", 40960),
            measured("NVIDIA A100-SXM4-80GB", 81920),
        )
    },
}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("h100", "nvidia-h100-80gb-hbm3--nanonets-ocr2-3b--0.33"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3--nanonets-ocr2-3b--0.33"),
        ("a100 40gb", "nvidia-a100-sxm4-40gb--nanonets-ocr2-3b--0.32"),
        ("80gb", "80gb--nanonets-ocr2-3b--unmeasured"),
        ("24GB", "24gb--nanonets-ocr2-3b--unmeasured"),
    ],
)
def test_a_card_is_chosen_by_a_part_of_its_name(text: str, name: str) -> None:
    assert fitting.choose(SHELF, (), text) == name


@pytest.mark.parametrize(
    ("card", "memory_mib", "name"),
    [
        (H100, 81559, "nvidia-h100-80gb-hbm3--nanonets-ocr2-3b--0.33"),
        (L4, 23034, "24gb--nanonets-ocr2-3b--unmeasured"),
        ("Tesla T4", 15360, "16gb--nanonets-ocr2-3b--unmeasured"),
        ("NVIDIA H200", 143771, "80gb--nanonets-ocr2-3b--unmeasured"),
        ("NVIDIA L40S", 46068, "48gb--nanonets-ocr2-3b--unmeasured"),
    ],
)
def test_the_card_of_this_machine_is_found_by_name_then_by_memory(
    card: str, memory_mib: int, name: str
) -> None:
    assert fitting.choose(SHELF, (Card(0, card, memory_mib), Card(1, L4, 23034))) == name


@pytest.mark.parametrize(
    ("cards", "text", "said"),
    [
        ((), None, "no GPU to plan for"),
        ((), "4gb", "no profile for a card like `4gb`"),
        ((), "-", "no profile for a card like `-`"),
        ((), "a100", "2 profiles are for a card like `a100`"),
        ((Card(0, "Tesla K20", 4742),), None, "no profile for Tesla K20, 4,742 MiB"),
    ],
)
def test_no_card_or_several_are_told(cards: tuple[Card, ...], text: str | None, said: str) -> None:
    with pytest.raises(TuningError) as raised:
        fitting.choose(SHELF, cards, text)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2
    assert raised.value.exit_code == 14


def test_an_empty_shelf_says_what_else_to_type(tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="--profile FILE"):
        fitting.choose(fitting.shelf(tmp_path), ())
