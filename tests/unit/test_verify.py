"""How a proof of the seal ends, without a container: what it leaves, and who changes what."""

import importlib
import json
from http import HTTPStatus
from pathlib import Path
from unittest import mock
from unittest.mock import MagicMock, Mock

import pytest
from docker.errors import APIError, NotFound
from invoke.context import Context
from invoke.exceptions import Exit

from cloister import config
from cloister.containers import sweep
from cloister.deployment.record import Record, required, write
from cloister.errors import DeploymentError
from cloister.files import BusyError, exclusive
from cloister.isolation.differences import line
from cloister.isolation.finding import Finding
from cloister.isolation.verify import Report
from cloister.layout import Layout
from tasks import service

# The package has a function of this name.
verify = importlib.import_module("cloister.isolation.verify")


def refusal(status: int) -> APIError:
    response = Mock(status_code=status, reason="", url="")
    response.json.return_value = {"message": "no"}
    kind = NotFound if status == HTTPStatus.NOT_FOUND else APIError
    return kind("no", response=response, explanation="no")


def test_what_another_command_removes_is_waited_for() -> None:
    gone, going, busy = Mock(), Mock(), Mock()
    gone.remove.side_effect = refusal(404)
    going.remove.side_effect = refusal(409)
    client = Mock()
    client.containers.list.return_value, client.networks.list.return_value = [gone, going], [gone]
    sweep(client, "ocr")
    going.wait.assert_called_once_with(timeout=60, condition="removed")
    busy.remove.side_effect = refusal(500)
    client.containers.list.return_value = [busy]
    with pytest.raises(APIError):
        sweep(client, "ocr")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Record:
    """A deployment whose proof finds nothing, and whose containers are nobody's."""
    settings = config.load(
        flags=("runtime=docker", f"state_dir={str(tmp_path)[:80]}"),
        environ={"CLOISTER_CONFIG": "/dev/null"},
    ).settings
    found = Record(settings=settings, cores=1)
    write(found)
    monkeypatch.setattr(verify.containers, "connect", MagicMock)
    monkeypatch.setattr(verify, "observer", Mock())
    monkeypatch.setattr(verify, "of_this_machine", Mock())
    monkeypatch.setattr(verify, "_scene", Mock())
    for name in ("_told", "look", "_tried", "_unchanged"):
        monkeypatch.setattr(verify, name, lambda *_: [])
    fine = Finding("a", "b", "sealed", "")
    for name in ("allow_list", "other_addresses", "inspect_files"):
        monkeypatch.setattr(verify, name, lambda *_: fine)
    return found


def prove(recorded: Record, *allowed: str) -> Report:
    report: Report = verify.verify(recorded, frozenset(allowed), None, Mock())
    return report


def test_lines_of_allowed_differences_are_accepted_or_told(
    monkeypatch: pytest.MonkeyPatch, recorded: Record
) -> None:
    key, values = "HostConfig.Binds", ["/b:/b", "/a:/a"]
    hole = Finding("engine", key, "open", "", "do", line("engine", key, values))
    monkeypatch.setattr(verify, "_told", lambda *_: [hole])
    assert prove(recorded).verdict == "open"
    # As a user listed it when Docker returned another order.
    listed = f"engine {key} {json.dumps(values[::-1])}"
    report = prove(recorded, listed)
    accepted = [one.check for one in report.findings if one.verdict == "accepted"]
    assert (report.sealed, accepted) == (True, [key])
    report = prove(recorded, listed, "engine HostConfig.Nonsense true")
    unmatched = report.findings[-1]
    assert (report.sealed, report.verdict) == (True, "accepted")
    assert unmatched.subject == "docker.allowed_differences"
    assert unmatched.check == "engine HostConfig.Nonsense true"
    monkeypatch.setattr(verify, "_told", lambda *_: [])
    assert prove(recorded, listed).findings[-1].check == hole.difference


def test_commands_do_not_wait_for_a_proof_and_have_it_made_again(
    monkeypatch: pytest.MonkeyPatch, recorded: Record
) -> None:
    layout = Layout(recorded.settings.state_dir)
    assert prove(recorded).sealed

    def change(*_: object) -> list[Finding]:
        with exclusive(layout.lock, wait_s=0):
            write(recorded.model_copy(update={"images": {"tesseract-1": "sha256:1"}}))
        return []

    monkeypatch.setattr(verify, "_tried", change)
    with pytest.raises(BusyError, match="changed the deployment during"):
        prove(recorded)
    monkeypatch.setattr(verify, "_tried", lambda *_: [])
    assert prove(required(recorded.settings)).sealed
    # A replica that the watchdog takes out makes no proof void: an engine can bring that about.
    write(recorded.model_copy(update={"standings": {"tesseract-1": "sick"}, "taken": {"x": 1}}))
    assert prove(recorded).sealed


def test_what_fails_because_of_a_command_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, recorded: Record
) -> None:
    def fail(*_: object) -> list[Finding]:
        raise refusal(404)

    monkeypatch.setattr(verify, "look", fail)
    with pytest.raises(DeploymentError, match="Docker: no") as caught:
        prove(recorded)
    assert not isinstance(caught.value, BusyError)

    def change_and_fail(*_: object) -> list[Finding]:
        write(recorded.model_copy(update={"cores": 2}))
        raise refusal(404)

    monkeypatch.setattr(verify, "look", change_and_fail)
    with pytest.raises(BusyError):
        prove(recorded)


@pytest.mark.parametrize("error", [KeyboardInterrupt, refusal(500)])
def test_a_proof_that_ends_in_between_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, recorded: Record, error: BaseException
) -> None:
    """One that was made and not started has no one who got hold of it."""
    swept = Mock()
    monkeypatch.setattr(verify.containers, "sweep", swept)
    monkeypatch.setattr(verify, "observer", Mock(side_effect=error))
    with pytest.raises((KeyboardInterrupt, DeploymentError)):
        prove(recorded)
    assert swept.call_count == 2


def test_two_proofs_at_once_would_take_each_other_for_strangers(recorded: Record) -> None:
    lock = Layout(recorded.settings.state_dir).proof_lock
    with exclusive(lock), pytest.raises(BusyError, match="another `invoke verify` is running"):
        prove(recorded)


def test_a_watch_goes_through_changes_and_ends_at_the_first_hole(
    monkeypatch: pytest.MonkeyPatch, recorded: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    hole = Finding("a", "b", "open", "")
    report = Report(sealed=False, verdict="open", engine_version="1", findings=(hole,))
    rounds = Mock(side_effect=[BusyError("a command changed it"), report])
    monkeypatch.setattr("cloister.isolation.verify", rounds)
    monkeypatch.setattr(service, "settings", lambda _: recorded.settings)
    monkeypatch.setattr(service, "time", clock := Mock())
    monkeypatch.setattr(service, "signal", Mock())
    with pytest.raises(Exit) as ended:
        service.verify(Context(), watch=5)
    assert (ended.value.code, clock.sleep.call_args_list) == (7, [mock.call(5)])
    assert "a command changed it; the proof is repeated in 5 s\n" in capsys.readouterr().err
    rounds.side_effect = BusyError("a command changed it")
    with pytest.raises(Exit) as ended:
        service.verify(Context())
    assert ended.value.code == 6
