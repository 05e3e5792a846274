"""The scripts for users, interrupted, started twice and on machines that are not well."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil
import pytest
from deployments import ROOT, eventually, grouped

SCRIPTS = (
    "local-bases.sh",
    "publish-tools.sh",
    "registry-login.sh",
    "setup-nanonets.sh",
    "test.sh",
)
# `faker` has hundreds of files: an interruption can hit the middle of its installation.
PACKAGES = ("invoke", "faker")
SETUP = ("scripts/setup-nanonets.sh", "--no-start")
# What a script does that uses the functions of prerequisites.sh.
SOURCED = ("bash", "-euo", "pipefail", "-c")
_TASKS = """
from invoke import task

@task
def setup(c):
    print("the machine is checked")
"""


def pinned(*names: str) -> str:
    """Return the entries of requirements/runtime.txt for these packages, with their hashes."""
    entries = re.split(
        r"^(?=\S)", (ROOT / "requirements/runtime.txt").read_text(), flags=re.MULTILINE
    )
    return "".join(entry for entry in entries if entry.split("==")[0] in names)


class Copy:
    """A checkout with few requirements, in a folder whose name has a space."""

    def __init__(self, root: Path) -> None:
        self.root, self.venv = root, root / ".venv"
        self.stamp = self.venv / "requirements.txt"
        (root / "requirements").mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", root / "scripts")
        shutil.copy(ROOT / "requirements/uv.txt", root / "requirements")
        self.require(*PACKAGES)
        (root / "tasks.py").write_text(_TASKS)

    def require(self, *names: str) -> None:
        (self.root / "requirements/runtime.txt").write_text(pinned(*names))

    def start(
        self, *command: str, env: Mapping[str, str] | None = None
    ) -> AbstractContextManager["subprocess.Popen[str]"]:
        """Start a program in a process group of its own, as a terminal does."""
        return grouped(
            list(command),
            cwd=self.root,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        with self.start(*command, env=env) as process:
            output = finish(process)
        assert process.returncode == code, output
        return output

    def set_up(self, *, code: int = 0, env: Mapping[str, str] | None = None) -> str:
        return self.run(*SETUP, code=code, env=env)

    def interrupt(self, moment: str, signum: signal.Signals) -> None:
        """Interrupt a run at the moment when it has made a new .venv with this path in it."""
        earlier = self.venv / "earlier"
        if self.venv.is_dir():
            earlier.touch()
        programs = self.root / "programs"
        programs.mkdir(exist_ok=True)
        (programs / "mv").write_text(_STUCK_MV)
        (programs / "mv").chmod(0o755)
        with self.start(*SETUP, env={"PATH": f"{programs}:{os.environ['PATH']}"}) as process:
            while earlier.exists() or not any(self.root.glob(moment)):
                assert process.poll() is None, finish(process)
                time.sleep(0.001)
            os.killpg(process.pid, signum)
            finish(process)
        expected = 130 if signum == signal.SIGINT else -signal.SIGKILL
        assert process.returncode == expected


def finish(process: "subprocess.Popen[str]") -> str:
    """Return what is printed until the end."""
    return process.communicate(timeout=300)[0]


def lines_until(process: "subprocess.Popen[str]", words: str) -> str:
    """Return what is printed up to the line that has these words."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"`{words}` was not printed:\n{''.join(lines)}")


PACKAGE_FOLDER = ".venv/lib/python3*/site-packages"
# What is there when a run is interrupted. Ctrl-C lets pip and uv tidy up; a kill does not.
MOMENTS = (
    (".venv", signal.SIGKILL),
    (".venv/bin/python", signal.SIGINT),
    (f"{PACKAGE_FOLDER}/pip", signal.SIGKILL),
    (f"{PACKAGE_FOLDER}/uv", signal.SIGINT),
    ("all-is-installed", signal.SIGKILL),
)
# The last step of an installation is to move its stamp into place; this `mv` never does.
_STUCK_MV = """#!/bin/sh
case "$*" in *.new*) touch all-is-installed; exec sleep 600 ;; esac
exec /bin/mv "$@"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A checkout that was interrupted at each moment, and then set up from its active environment.

    That the next moment is reached also proves that the state before it was repaired.
    """
    copy = Copy(tmp_path_factory.mktemp("made") / "a checkout")
    for moment, signum in MOMENTS:
        copy.interrupt(moment, signum)
        assert not copy.stamp.exists(), moment
    output = copy.set_up(env={"PATH": f"{copy.venv / 'bin'}:{os.environ['PATH']}"})
    assert ".venv is incomplete" in output
    assert "the machine is checked" in output
    return copy


def test_an_interrupted_setup_is_repaired_once(made: Copy) -> None:
    made.run(".venv/bin/invoke", "--version")
    made.run(".venv/bin/python", "-c", "import faker, pip, uv; faker.Faker()")
    (made.venv / "kept").touch()
    output = made.set_up()
    assert ".venv is incomplete" not in output
    assert (made.venv / "kept").exists()


@pytest.fixture
def copy(made: Copy, tmp_path: Path) -> Copy:
    """A checkout with a complete environment, to be damaged."""
    own = Copy(tmp_path / "a checkout")
    shutil.copytree(made.venv, own.venv, symlinks=True, copy_function=os.link)
    replace(own.venv / "made-in", f"{own.root}\n")
    return own


def replace(file: Path, text: str) -> None:
    """Replace a file: the one that is there shares its bytes with other copies."""
    file.unlink(missing_ok=True)
    file.write_text(text)


def relink(copy: Copy) -> None:
    (copy.venv / "bin/python").unlink()
    (copy.venv / "bin/python").symlink_to("/nowhere/python3")


DAMAGES: dict[str, Callable[[Copy], object]] = {
    "no packages at all": lambda copy: shutil.rmtree(next(copy.root.glob(PACKAGE_FOLDER))),
    "no pip": lambda copy: shutil.rmtree(next(copy.root.glob(f"{PACKAGE_FOLDER}/pip"))),
    "no list of what is installed": lambda copy: copy.stamp.unlink(),
    "its Python was removed": relink,
    "made in another folder": lambda copy: replace(copy.venv / "made-in", "/elsewhere\n"),
    "no pyvenv.cfg": lambda copy: (copy.venv / "pyvenv.cfg").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_environment_is_recognised(copy: Copy, damage: str) -> None:
    DAMAGES[damage](copy)
    copy.run(*SOURCED, ". scripts/prerequisites.sh; is_environment || exit 3", code=3)


def test_an_environment_of_an_older_version_is_kept(copy: Copy) -> None:
    (copy.venv / "made-in").unlink()
    copy.run(*SOURCED, ". scripts/prerequisites.sh; is_environment")


def test_a_failure_of_the_network_keeps_the_environment(copy: Copy, tmp_path: Path) -> None:
    before = copy.stamp.read_text()
    copy.require(*PACKAGES, "tqdm")
    empty = str(tmp_path / "cache")
    output = copy.set_up(code=10, env={"UV_OFFLINE": "1", "UV_CACHE_DIR": empty})
    assert "the Python packages of requirements/runtime.txt could not be installed" in output
    assert "hint: check the network" in output
    assert copy.stamp.read_text() == before
    output = copy.set_up()
    assert ".venv is incomplete" not in output
    copy.run(".venv/bin/python", "-c", "import tqdm")


def test_two_runs_do_not_install_at_once(copy: Copy) -> None:
    folder = os.open(copy.root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with copy.start(*SETUP) as process:
        lines_until(process, "waiting for another run")
        os.close(folder)
        output = finish(process)
    assert process.returncode == 0, output
    assert "the machine is checked" in output


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_finds_its_own_folder(tmp_path: Path, name: str) -> None:
    copy = Copy(tmp_path / "a checkout")
    (tmp_path / "other/scripts").mkdir(parents=True)
    output = copy.run("bash", f"scripts/{name}", "--help", env={"CDPATH": str(tmp_path / "other")})
    assert "usage: " in output


_PYTHON = """
case "$*" in
    "-m suites --needs"*)
        [ -e "$NOTES/no-needs" ] || echo nginx client_tools docker registry skopeo
        ;;
    "-m suites"*)
        trap 'exit 130' TERM
        : >"$NOTES/suites"
        while [ -e "$NOTES/long" ]; do sleep 0.05; done
        docker info
        ;;
esac
"""


class Machine:
    """A machine without a Docker engine: its programs are stand-ins that note what was asked."""

    def __init__(self, folder: Path) -> None:
        self.copy, self.notes, self.programs = Copy(folder / "a checkout"), folder, folder / "bin"
        (self.copy.venv / "bin").mkdir(parents=True)
        shutil.copy(self.copy.root / "requirements/runtime.txt", self.copy.stamp)
        self.programs.mkdir()
        tools = ("bash", "cat", "cmp", "dirname", "env", "flock", "mkdir", "seq", "setsid", "sleep")
        for name in tools:
            (self.programs / name).symlink_to(str(shutil.which(name)))
        for name in ("curl", "nginx", "pdftoppm", "skopeo", "ip"):
            self.program(self.programs / name, "")
        self.program(self.programs / "python3", f'exec "{sys.executable}" "$@"')
        self.program(self.programs / "id", "echo 0")
        goes_on = "while :; do sleep 0.1; done"
        self.program(self.programs / "dockerd", f'echo $$ >"$NOTES/pid"; {goes_on}')
        self.program(self.programs / "docker", 'kill -0 "$(cat "$NOTES/pid")" 2>/dev/null')
        self.program(self.copy.venv / "bin/python", _PYTHON)
        self.environment = {
            "PATH": str(self.programs),
            "NOTES": str(folder),
            "CI": "true",
            "DOCKERD_FILE": str(folder / "dockerd"),
        }

    def program(self, file: Path, script: str) -> None:
        file.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        file.chmod(0o755)

    def apt(self, script: str) -> None:
        """Let apt-get do this where the registry is installed."""
        self.program(
            self.programs / "apt-get",
            f'case "$*" in *"install -y docker-registry") {script} ;; esac',
        )

    def engine(self) -> int:
        """Return the process number of the engine, which was started."""
        text = (self.notes / "pid").read_text()
        assert text
        return int(text)

    def assert_engine_stopped(self) -> None:
        """Require that the engine was started, and is gone."""
        assert not psutil.pid_exists(self.engine())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    own = Machine(tmp_path)
    yield own
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        psutil.Process(int((tmp_path / "pid").read_text())).kill()


INSTALLS_REGISTRY = 'printf "#!/bin/sh\\n" >"$NOTES/bin/docker-registry"'


def test_the_engine_runs_for_the_tests_and_is_stopped_after_them(machine: Machine) -> None:
    machine.apt(INSTALLS_REGISTRY)
    machine.copy.run("scripts/test.sh", env=machine.environment)
    assert (machine.notes / "suites").exists()
    machine.assert_engine_stopped()
    # One log, which the next run overwrites.
    assert [file.name for file in (machine.copy.root / ".nox").iterdir()] == ["dockerd.log"]


def test_the_engine_that_another_run_needs_is_stopped_by_the_last_one(machine: Machine) -> None:
    machine.apt(INSTALLS_REGISTRY)
    (machine.notes / "long").touch()
    with machine.copy.start("scripts/test.sh", env=machine.environment) as first:
        eventually((machine.notes / "suites").stat)
        (machine.notes / "suites").unlink()
        with machine.copy.start("scripts/test.sh", env=machine.environment) as second:
            eventually((machine.notes / "suites").stat)
            first.send_signal(signal.SIGTERM)
            finish(first)
            assert psutil.pid_exists(machine.engine())
            (machine.notes / "long").unlink()
            output = finish(second)
    assert second.returncode == 0, output
    assert "starting dockerd" not in output
    machine.assert_engine_stopped()


def test_the_engine_of_a_killed_run_is_stopped_by_the_next_one(machine: Machine) -> None:
    machine.apt(INSTALLS_REGISTRY)
    (machine.notes / "long").touch()
    with machine.copy.start("scripts/test.sh", env=machine.environment) as killed:
        eventually((machine.notes / "suites").stat)
        os.killpg(killed.pid, signal.SIGKILL)
    (machine.notes / "long").unlink()
    (machine.notes / "no-needs").touch()
    output = machine.copy.run("scripts/test.sh", env=machine.environment)
    assert psutil.pid_exists(machine.engine()), "one that needs no engine leaves it alone"
    assert "flock" not in output
    (machine.notes / "no-needs").unlink()
    machine.copy.run("scripts/test.sh", env=machine.environment)
    machine.assert_engine_stopped()


def test_the_engine_is_stopped_where_a_later_installation_fails(machine: Machine) -> None:
    machine.apt("exit 100")
    output = machine.copy.run("scripts/test.sh", code=10, env=machine.environment)
    assert "error: a registry is missing and could not be installed" in output
    assert "hint: as root: apt-get install -y docker-registry" in output
    machine.assert_engine_stopped()


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGTERM, -15)]
)
def test_the_engine_is_stopped_where_an_installation_is_interrupted(
    machine: Machine, signum: signal.Signals, code: int
) -> None:
    # apt-get ignores Ctrl-C while dpkg works, and then succeeds.
    wait = ': >"$NOTES/at"; until [ -e "$NOTES/go" ]; do sleep 0.05; done'
    machine.apt(f"trap '' INT TERM HUP; {wait}; {INSTALLS_REGISTRY}")
    with machine.copy.start("scripts/test.sh", env=machine.environment) as process:
        eventually((machine.notes / "at").stat)
        os.killpg(process.pid, signum)
        (machine.notes / "go").touch()
        output = finish(process)
    assert process.returncode == code, output
    assert not (machine.notes / "suites").exists()
    machine.assert_engine_stopped()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM])
def test_the_runner_hears_of_a_signal_that_only_the_script_gets(
    machine: Machine, signum: signal.Signals
) -> None:
    """As of a closed terminal; and the script ends with the runner's code, after it."""
    machine.apt(INSTALLS_REGISTRY)
    (machine.notes / "long").touch()
    with machine.copy.start("scripts/test.sh", env=machine.environment) as process:
        eventually((machine.notes / "suites").stat)
        process.send_signal(signum)
        output = finish(process)
    assert process.returncode == 130, output
    machine.assert_engine_stopped()


def test_ctrl_c_while_the_engine_starts_stops_it(machine: Machine) -> None:
    machine.apt(INSTALLS_REGISTRY)
    machine.program(machine.programs / "docker", "exit 1")
    with machine.copy.start("scripts/test.sh", env=machine.environment) as process:
        eventually(machine.engine)
        os.killpg(process.pid, signal.SIGINT)
        output = finish(process)
    assert process.returncode == 130, output
    machine.assert_engine_stopped()


def test_an_engine_that_ends_at_once_is_not_waited_for(machine: Machine) -> None:
    machine.apt(INSTALLS_REGISTRY)
    machine.program(machine.programs / "dockerd", "echo no permission; exit 1")
    machine.program(machine.programs / "docker", 'echo x >>"$NOTES/asked"; exit 1')
    (machine.programs / "tail").symlink_to(str(shutil.which("tail")))
    output = machine.copy.run("scripts/test.sh", code=10, env=machine.environment)
    assert output.splitlines()[-2:] == [
        "error: dockerd did not start: no permission",
        "hint: read .nox/dockerd.log, then run this again",
    ]
    assert not (machine.notes / "suites").exists()
    assert len((machine.notes / "asked").read_text().splitlines()) < 10


# As the real one: an engine that finds another one ends, and the other answers some time later.
_SLOW_DOCKERD = """
echo x >>"$NOTES/started"
(set -o noclobber; echo $$ >"$NOTES/pid") 2>/dev/null || exit 1
sleep 1
: >"$NOTES/up"
while :; do sleep 0.1; done
"""
# Who asks first waits until both runs have asked.
_BOTH_ASK = """
if [ -e "$NOTES/up" ]; then kill -0 "$(cat "$NOTES/pid")"; exit; fi
: >"$NOTES/asked-$PPID"
while set -- "$NOTES"/asked-*; [ $# -lt 2 ]; do sleep 0.05; done
exit 1
"""


def test_two_runs_that_start_together_start_one_engine_and_the_last_one_stops_it(
    machine: Machine,
) -> None:
    machine.apt(INSTALLS_REGISTRY)
    machine.program(machine.programs / "dockerd", _SLOW_DOCKERD)
    machine.program(machine.programs / "docker", _BOTH_ASK)
    with (
        machine.copy.start("scripts/test.sh", env=machine.environment) as first,
        machine.copy.start("scripts/test.sh", env=machine.environment) as second,
    ):
        outputs = finish(first) + finish(second)
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert (machine.notes / "started").read_text() == "x\n"
    assert outputs.count("waiting for another run of the tests, which starts") == 1
    machine.assert_engine_stopped()


def test_a_run_waits_while_another_one_stops_the_engine(machine: Machine) -> None:
    machine.apt(INSTALLS_REGISTRY)
    with (machine.notes / "dockerd").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with machine.copy.start("scripts/test.sh", env=machine.environment) as process:
            lines_until(process, "waiting for another run of the tests, which stops the Docker")
            held.close()
            output = finish(process)
    assert process.returncode == 0, output
    machine.assert_engine_stopped()


def test_the_file_of_the_engine_has_to_be_written(machine: Machine) -> None:
    (machine.notes / "dockerd").mkdir()
    machine.apt(INSTALLS_REGISTRY)
    output = machine.copy.run("scripts/test.sh", code=10, env=machine.environment)
    assert output.splitlines() == [
        f"error: {machine.notes}/dockerd cannot be written",
        f"hint: touch {machine.notes}/dockerd prints why",
    ]


def test_an_engine_that_does_not_stop_is_reported_and_known_to_the_next_run(
    machine: Machine,
) -> None:
    machine.apt(INSTALLS_REGISTRY)
    stays = """trap '' TERM; echo $$ >"$NOTES/pid"; while :; do sleep 0.1; done"""
    machine.program(machine.programs / "dockerd", stays)
    (machine.programs / "seq").unlink()
    machine.program(machine.programs / "seq", '[ "$1" = 120 ] && echo 1 || echo {1..240}')
    output = machine.copy.run("scripts/test.sh", env=machine.environment)
    assert output.splitlines()[-2:] == [
        "error: dockerd did not stop within 60 s",
        f"hint: kill -9 {machine.engine()}",
    ]
    assert (machine.notes / "dockerd").read_text() == f"{machine.engine()}\n"


_AS_ANYBODY = 'as_root() { "$@"; }'
_THING = "'a thing' no-such-package"


@pytest.mark.parametrize(
    ("python", "there"), [(None, "no python3"), ("Python 3.9.2", "Python 3.9.2")]
)
def test_a_machine_without_a_python_that_is_new_enough_is_told_so(
    tmp_path: Path, python: str | None, there: str
) -> None:
    machine = Machine(tmp_path)
    (machine.programs / "python3").unlink()
    if python:
        machine.program(machine.programs / "python3", f"echo {python}")
    # There is no package manager either, and /usr/bin/python3 does not count.
    source = ". scripts/prerequisites.sh; PATH=$ONLY; is_new_enough() { false; }; require_python"
    environment = {**machine.environment, "ONLY": str(machine.programs)}
    output = machine.copy.run(*SOURCED, source, code=10, env=environment)
    assert output.splitlines() == [
        f"error: Python 3.11 or newer was not found; there is {there}",
        "hint: install Python 3.11 or newer and its venv module, then run this again",
    ]


def with_manager(tmp_path: Path, manager: str | None, script: str, code: int) -> list[str]:
    """Return what a script prints where there is that package manager, and next to nothing else."""
    machine = Machine(tmp_path)
    for name in ("nginx", "pdftoppm", "skopeo", "ip"):
        (machine.programs / name).unlink()
    if manager:
        machine.program(machine.programs / manager, f'echo "{manager} $*" >>"$NOTES/asked"; exit 1')
    source = f". scripts/prerequisites.sh; PATH=$ONLY; has_nginx_lua() {{ false; }}; {script}"
    environment = {**machine.environment, "ONLY": str(machine.programs), "APT_RETRIES": "0"}
    return machine.copy.run(*SOURCED, source, code=code, env=environment).splitlines()


@pytest.mark.parametrize(
    ("manager", "script", "command"),
    [
        ("apt-get", "install_nginx() { :; }; require_nginx", "install -y libnginx-mod-http-lua"),
        ("apk", "install_nginx() { :; }; require_nginx", "add nginx-mod-http-lua"),
        ("dnf", "install_nginx() { :; }; require_client_tools", "install -y poppler-utils"),
        ("zypper", "require_client_tools", "--non-interactive install poppler-tools"),
        ("pacman", "require_client_tools", "-S --noconfirm poppler"),
        ("brew", "require_client_tools", "install poppler"),
        ("apk", "find_python() { :; }; require_python", "add python3"),
        ("pacman", "find_python() { :; }; require_python", "-S --noconfirm python"),
        ("zypper", "find_python() { :; }; require_python", "--non-interactive install python311"),
        ("dnf", "find_python() { :; }; require_python", "install -y python3.11"),
    ],
)
def test_each_package_manager_is_asked_for_its_own_name(
    tmp_path: Path, manager: str, script: str, command: str
) -> None:
    said = with_manager(tmp_path, manager, script, 10)
    who = "" if manager == "brew" else "as root: "
    assert said[-1] == f"hint: {who}{manager} {command}"
    assert (tmp_path / "asked").read_text().endswith(f"{command.rpartition(' ')[2]}\n")


@pytest.mark.parametrize("manager", ["dnf", "yum", "zypper", "pacman", "brew", None])
def test_a_package_that_nobody_has_is_not_asked_for(tmp_path: Path, manager: str | None) -> None:
    said = with_manager(tmp_path, manager, "require_nginx", 10)
    assert said[-2].startswith("error: nginx' Lua module is missing, and no package of it is known")
    assert "invoke up --set runtime=docker" in said[-1]
    assert not (tmp_path / "asked").exists(), "not even nginx is installed"


@pytest.mark.parametrize(
    ("manager", "script", "told"),
    [
        ("dnf", "require_ip ''", "as root: dnf install -y iproute"),
        ("pacman", "require_ip ''", "as root: pacman -S --noconfirm iproute2"),
        ("apk", "require_ip ''", "as root: apk add iproute2"),
        ("zypper", "require_registry ''", "zypper --non-interactive install distribution-registry"),
        ("dnf", "require_registry ''", "no package of it is known for dnf"),
        ("brew", "require_skopeo ''", "brew install skopeo"),
        (None, "require_skopeo ''", "install it with your package manager: skopeo"),
    ],
)
def test_what_the_tests_lack_is_told_with_the_manager_s_own_name(
    tmp_path: Path, manager: str | None, script: str, told: str
) -> None:
    said = with_manager(tmp_path, manager, script, 0)
    assert told in "\n".join(said)
    assert "Debian" not in "\n".join(said)
    assert all(len(line) <= 100 for line in said)


class Apt:
    """The real apt-get, with a database of its own."""

    def __init__(self, copy: Copy, folder: Path) -> None:
        self.copy, self.folder = copy, folder
        for name in ("updates", "lists"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        places = {"State::status": f"{folder}/status", "State::lists": f"{folder}/lists"}
        places |= {"Cache": f"{folder}"}
        places |= {"Etc::sourcelist": "/dev/null", "Etc::sourceparts": "/dev/null"}
        lines = (f"Dir::{name} {json.dumps(place)};\n" for name, place in places.items())
        (folder / "apt.conf").write_text("".join(lines))
        # Only root may install; here nothing of the machine is changed.
        self.command = (*SOURCED, f". scripts/prerequisites.sh; {_AS_ANYBODY}; install {_THING}")
        self.environment = {"APT_CONFIG": str(folder / "apt.conf")}

    def install(self, **environment: str) -> str:
        """Return what is printed: the package is in no list, so that installing it fails."""
        return self.copy.run(*self.command, code=10, env={**self.environment, **environment})


@pytest.fixture
def apt(tmp_path: Path) -> Apt:
    if not shutil.which("apt-get"):
        pytest.skip("this machine has no apt-get")
    return Apt(Copy(tmp_path / "a checkout"), tmp_path / "apt")


def test_an_interrupted_dpkg_is_reported_with_what_to_type(apt: Apt) -> None:
    assert "could not be installed" in apt.install()
    (apt.folder / "updates/0001").write_text("Package: half\n")
    output = apt.install()
    assert "error: a thing is missing, and apt-get installs nothing after dpkg" in output
    assert "hint: as root: dpkg --configure -a" in output


LOCKS = pytest.mark.parametrize("lock", ["lock-frontend", "lists/lock"])


@LOCKS
def test_the_lock_of_another_package_manager_is_waited_for(apt: Apt, lock: str) -> None:
    with (apt.folder / lock).open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        with apt.copy.start(*apt.command, env=apt.environment) as process:
            lines_until(process, "waiting up to 300 s for another package manager")
            held.close()
            output = finish(process)
    assert "Unable to locate package no-such-package" in output
    assert "error: a thing is missing and could not be installed" in output


@LOCKS
def test_a_lock_that_is_kept_is_reported(apt: Apt, lock: str) -> None:
    with (apt.folder / lock).open("w") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        output = apt.install(APT_LOCK_TIMEOUT_S="1")
    assert "another package manager held its lock for 1 s" in output
    assert "hint: wait until it ends, then run this again" in output


def test_a_clone_with_autocrlf_runs(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "--quiet", "-c", "core.autocrlf=true", str(ROOT), str(clone)], check=True
    )
    listed = ["git", "ls-files", "--eol"]
    done = subprocess.run(listed, cwd=clone, capture_output=True, text=True, check=True)
    kinds = [line.split(maxsplit=2)[:2] for line in done.stdout.splitlines()]
    assert len(kinds) > 500
    changed = [(i, w) for i, w in kinds if i.removeprefix("i/") != w.removeprefix("w/")]
    assert changed == []
    for script in (*clone.glob("scripts/*.sh"), clone / ".ci/run"):
        subprocess.run(["bash", "-n", str(script)], check=True)
    subprocess.run([str(clone / "scripts/test.sh"), "--help"], check=True, capture_output=True)


class Sessions:
    """A checkout with the real noxfile.py; the test runs one session of it."""

    def __init__(self, root: Path) -> None:
        self.copy, self.environment = Copy(root), root / ".nox/bench-list"
        shutil.copy(ROOT / "noxfile.py", root)
        (root / "benchmarks").mkdir()
        (root / "benchmarks/task_list.py").write_text("import faker, invoke; print('it runs')\n")

    def run(self, *flags: str) -> str:
        return self.copy.run(sys.executable, "-m", "nox", "-s", "bench-list", *flags)


def test_nox_replaces_an_environment_that_was_interrupted(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "a checkout")
    sessions.environment.mkdir(parents=True)
    assert "it runs" in sessions.run()
    packages = next(sessions.environment.glob("lib/python3*/site-packages"))
    (packages / "kept.py").touch()
    assert "it runs" in sessions.run()
    assert (packages / "kept.py").exists()
    stamp = sessions.environment / "requirements.txt"
    stamp.unlink()
    assert "it runs" in sessions.run("-R")  # installs nothing, not even what is missing
    assert not stamp.exists()
    next(packages.glob("invoke-*/METADATA")).unlink()
    (sessions.environment / "pyvenv.cfg").unlink()
    assert "it runs" in sessions.run()
    assert not (packages / "kept.py").exists()
