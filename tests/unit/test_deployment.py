"""Plans and records, without a process."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from cloister import config
from cloister.config import Settings
from cloister.deployment import plan, record
from cloister.deployment.plan import programs
from cloister.deployment.record import Record
from cloister.engines import ENGINES
from cloister.errors import DeploymentError, EngineError
from cloister.layout import Layout
from cloister.placement import Seat


def load(*flags: str) -> Settings:
    environ = {"CLOISTER_CONFIG": "/dev/null", "CLOISTER_STATE_DIR": "/state"}
    return config.load(flags=("engine=tesseract", *flags), environ=environ).settings


@pytest.mark.parametrize(
    ("replicas", "cores", "slots"), [(1, 2, 2), (2, 2, 2), (4, 2, 4), (2, 16, 16), (3, 16, 15)]
)
def test_replicas_share_the_cores(replicas: int, cores: int, slots: int) -> None:
    planned = plan(load(f"replicas={replicas}"), cores)
    assert planned.slots == slots
    assert [replica.name for replica in planned.replicas] == [
        f"tesseract-{number}" for number in range(1, replicas + 1)
    ]
    assert len(set(planned.site.published.values())) == replicas + 3


def test_configured_workers_count_for_each_replica() -> None:
    assert plan(load("replicas=2", "tesseract.workers=3"), 2).slots == 6


def test_the_programs_of_two_replicas(golden: Callable[[str, str], None]) -> None:
    settings = load("replicas=2", "tesseract.tessdata_dir=/data")
    found = programs(plan(settings, 4), None)
    text = json.dumps([asdict(program) for program in found], indent=2) + "\n"
    golden("programs-2.json", text.replace(sys.executable, "PYTHON"))


def test_an_engine_without_its_data_says_what_to_install(tmp_path: Path) -> None:
    settings = load(f"tesseract.tessdata_dir={tmp_path}", "tesseract.languages=deu")
    with pytest.raises(EngineError, match=r"no data for language `deu`.*found: none") as raised:
        ENGINES["tesseract"].check(settings)
    assert "tesseract-ocr-deu" in str(raised.value)
    ENGINES["tesseract"].check(load())


def test_a_record_counts_how_often_commands_took_a_replica_in_hand() -> None:
    first = Record(settings=load(), cores=2, standings={"a": "unproven", "b": "serving"})
    serving = first.counted(None).moved({"a": "serving"}).counted(first.counted(None))
    assert serving.taken == {"a": 1}
    sick = serving.moved({"a": "sick", "b": "draining"}).counted(serving)
    assert sick.taken == {"a": 1, "b": 1}, "who is sick is the watchdog's"
    anew = first.counted(sick)
    assert anew.taken == {"a": 2, "b": 1}


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    settings = load(f"state_dir={tmp_path}"[:90], "replicas=3", "gateway.address=::1")
    kept = Record(
        settings=settings,
        cores=4,
        seats=(Seat(0, 45), Seat(1, 90)),
        standings={"tesseract-1": "serving", "tesseract-2": "sick"},
        shares={"tesseract-1": 3},
        previous=load("tesseract.workers=7"),
        under_way="rollout",
    )
    assert record.read(settings) is None
    with pytest.raises(DeploymentError, match="nothing is up"):
        record.required(settings)
    record.write(kept)
    assert record.required(settings) == kept
    record.erase(settings)
    assert record.read(settings) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"replicas": 0}', '{"of_another_version": 1}'])
def test_a_damaged_record_says_what_to_type(tmp_path: Path, text: str) -> None:
    settings = load(f"state_dir={tmp_path}"[:90])
    Layout(settings.state_dir).record.write_text(text)
    with pytest.raises(DeploymentError, match="cannot be read") as raised:
        record.read(settings)
    assert "invoke down" in str(raised.value)
