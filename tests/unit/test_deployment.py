"""Plans and records, without a process."""

import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import pytest

from cloister import config, ports, sockets
from cloister.config import Settings
from cloister.deployment import lifecycle, plan, record
from cloister.deployment.access import Access
from cloister.deployment.plan import door, programs
from cloister.deployment.record import Record
from cloister.engines import ENGINES
from cloister.errors import DeploymentError, EngineError
from cloister.layout import Layout
from cloister.placement import Seat
from cloister.runtimes import ProgramState


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
    everybody = (*planned.site.replicas, planned.site.exporter, planned.site.status)
    assert len(set(everybody)) == replicas + 2


@pytest.mark.parametrize(
    ("flags", "mib", "seconds", "moved_s"),
    [
        (("engine=tesseract",), 64, 1920, 210),
        (("engine=vllm-cuda", "vllm.max_model_len=16384"), 64, 1639, 120),
        (("engine=vllm-cpu", "vllm.max_model_len=16384"), 64, 16384, 310),
        (("engine=vllm-cuda", "healing.enabled=false"), 72, 1844, 310),
        (("engine=vllm-cuda", "gateway.max_answer_mib=5", "gateway.max_answer_s=7"), 5, 7, 120),
    ],
)
def test_the_longest_answer_follows_from_the_model(
    flags: tuple[str, ...], mib: int, seconds: int, moved_s: int
) -> None:
    made = door(plan(load(*flags), 4), Access(), {}, {})
    assert (made.answer.mib, made.answer.seconds) == (mib, seconds)
    assert made.moved_s == moved_s


def test_configured_workers_count_for_each_replica() -> None:
    assert plan(load("replicas=2", "tesseract.workers=3"), 2).slots == 6


def test_the_programs_of_two_replicas(golden: Callable[[str, str], None]) -> None:
    settings = load("replicas=2", "tesseract.tessdata_dir=/data")
    found = programs(plan(settings, 4), None)
    text = json.dumps([asdict(program) for program in found], indent=2, default=str) + "\n"
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


def test_a_record_with_the_replicas_that_go_is_one_that_can_be_read_again(tmp_path: Path) -> None:
    def kept(replicas: int, weights: list[int]) -> Record:
        flags = (f"state_dir={tmp_path}"[:90], f"replicas={replicas}", f"engines.weights={weights}")
        seats = tuple(Seat(number, 90) for number in range(replicas))
        return Record(settings=load(*flags), cores=4, seats=seats)

    wide = record.wider(kept(1, [5]), kept(3, [7, 8, 9]))
    record.write(wide)
    assert record.required(wide.settings) == wide
    assert (wide.settings.replicas, wide.settings.engines.weights) == (3, (5, 1, 1))
    assert wide.seats == (Seat(0, 90), Seat(1, 90), Seat(2, 90))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"replicas": 0}', '{"of_another_version": 1}'])
def test_a_damaged_record_says_what_to_type(tmp_path: Path, text: str) -> None:
    settings = load(f"state_dir={tmp_path}"[:90])
    Layout(settings.state_dir).record.write_text(text)
    with pytest.raises(DeploymentError, match="cannot be read") as raised:
        record.read(settings)
    assert "invoke down" in str(raised.value)


def test_a_state_folder_takes_sockets_and_frees_what_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle._check_file_system(tmp_path / "not" / "yet")

    def refuse(_: Path) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("cloister.spool.try_folder", refuse)
    with pytest.raises(DeploymentError, match="cannot free a part of a file") as caught:
        lifecycle._check_file_system(tmp_path)
    assert "a local file system" in str(caught.value.hint)
    monkeypatch.setattr("cloister.sockets.try_folder", refuse)
    with pytest.raises(DeploymentError, match="takes no Unix sockets"):
        lifecycle._check_file_system(tmp_path)


@pytest.mark.parametrize("runtime", ["process", "docker"])
def test_a_strangers_socket_is_found_where_commands_of_this_machine_look(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = plan(load(f"runtime={runtime}", f"state_dir={tmp_path}"), 2)
    monkeypatch.setattr(ports, "require_free", mock.Mock())
    place = Layout(tmp_path).sockets / "engine-1" / "sock"
    place.parent.mkdir(parents=True)

    def check(*names: str) -> None:
        states = [ProgramState(name, "running", 1, 0, "") for name in names]
        lifecycle._check_ports(wanted, None, mock.Mock(**{"states.return_value": states}))

    with closing(sockets.listen(place)):
        check("tesseract-1")
        check("vllm-nanonets-ocr-1")
        for others in ((), ("tesseract-2", "redis-1")):
            with pytest.raises(DeploymentError, match=f"another program listens at `{place}`"):
                check(*others)
    check()
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    monkeypatch.setattr(sockets, "is_served", mock.Mock(side_effect=refused))
    with pytest.raises(DeploymentError, match="Permission denied") as raised:
        check("tesseract-1")
    assert str(raised.value.hint).startswith("rm /")
