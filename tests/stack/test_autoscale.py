"""The autoscaler on a real fleet: more replicas while pages wait, fewer when none do."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from deployments import deployed, program
from fleets import Faulty, events, until
from load import load


@pytest.mark.timeout(1200)
def test_a_fleet_grows_and_shrinks_with_what_waits() -> None:
    folder = Path(tempfile.mkdtemp(prefix="cloister-vllm-"))
    folder.chmod(0o755)
    faulty = Faulty(folder, page_s=0.4)
    with deployed(**faulty.settings, autoscale_cool_down_s=5, autoscale_max=3) as stack:
        stack.settings |= faulty.environment
        stack.invoke("up")
        command = [sys.executable, "-m", "invoke", "autoscale"]
        with program(command, env=stack.environment, stdout=subprocess.PIPE, text=True) as scaler:
            with load(stack.url, at_once=40) as outcome:
                until(stack, lambda now: list(now.values()) == ["serving"] * 3, within_s=240)
            until(stack, lambda now: list(now.values()) == ["serving"], within_s=240)
            scaler.send_signal(signal.SIGINT)
            said = scaler.communicate(timeout=400)[0]
        why = [event["why"] for event in events(stack) if event["by"] == "autoscale"]
    assert scaler.returncode == 130
    assert outcome.lost == 0, str(outcome)
    assert "pages wait for" in said
    assert any("pages wait for 1 x 4" in text for text in why), why
    shutil.rmtree(folder)
