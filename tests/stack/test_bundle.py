"""scripts/bundle.sh on a far side that has bash, coreutils and openssl, and says it has Docker."""

import contextlib
import os
import pty
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from deployments import ROOT, eventually
from hub import COMMIT, Hub, model, serving
from repetitions import REPETITIONS

from cloister.bundle import make, signing
from cloister.downloader.asking import Patience
from cloister.downloader.download import Progress, download
from cloister.downloader.hub import Hub as Client
from cloister.errors import BundleError
from cloister.modelstore.store import Store

NAME = "acme/Reader"
# All that the far side needs.
PROGRAMS = (
    *("bash", "cat", "chmod", "cp", "cut", "df", "dirname", "du", "env", "head", "mkdir"),
    *("mktemp", "mv", "stat", "timeout"),
    *("openssl", "rm", "rmdir", "sha256sum", "tail", "touch"),
)
_DOCKER = """#!/usr/bin/env bash
touch "$FAR/asked"
case "$1" in
    info) echo /nowhere && [ ! -e "$FAR/on-info" ] || . "$FAR/on-info" ;;
    ps) cat "$FAR/running" 2>/dev/null || true ;;
    load) cat >"$FAR/loaded" && [ ! -e "$FAR/on-load" ] || . "$FAR/on-load" ;;
esac
"""


class Far:
    """A machine with a bundle, the script, the public key, and next to no programs."""

    def __init__(self, folder: Path, bundle: Path, key: Path) -> None:
        self.folder = folder
        self.bin, self.into, self.bundle = (folder / n for n in ("bin", "cloister", "bundle"))
        self.bin.mkdir(parents=True)
        for name in PROGRAMS:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.program("docker", _DOCKER)
        subprocess.run(["cp", "-Rl", str(bundle), str(self.bundle)], check=True)
        shutil.copy(ROOT / "scripts" / "bundle.sh", folder)
        shutil.copy(f"{key}.pub", folder / "key.pub")

    def program(self, name: str, text: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        (self.folder / "tmp").mkdir(exist_ok=True)
        return {
            "PATH": str(self.bin),
            "FAR": str(self.folder),
            "CDPATH": "/usr",
            "TMPDIR": str(self.folder / "tmp"),
        }

    def run(self, *arguments: str, umask: int = -1) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / "bundle.sh"), *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            umask=umask,
            start_new_session=True,
        )

    def install(self, into: str = "cloister", umask: int = -1) -> subprocess.CompletedProcess[str]:
        return self.run("install", "bundle", "--key", "key.pub", "--into", into, umask=umask)

    def python(self) -> str:
        """The version that the packages are for, such as 3.11."""
        return (self.bundle / "project/wheels/PYTHON").read_text().split()[1].rpartition(".")[0]

    def refused(self, done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode == BundleError.exit_code, done.stderr
        assert done.stderr.count("error: ") == 1
        return done.stderr

    def assert_installed(self) -> None:
        assert Store(self.into / "models").verify(NAME, COMMIT)
        assert (self.into / "cloister" / "__init__.py").is_file()
        assert not (self.into / ".unfinished").exists()
        assert not (self.folder / "cloister.installing").exists()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "cloister.key"
    signing.make_key(path)
    return path


@pytest.fixture(scope="module")
def made(key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a model in parts and the project, without images and wheels."""
    folder = tmp_path_factory.mktemp("near")
    store = Store(folder / "models")
    silent = Progress(lambda _: None, lambda _: None, lambda _: None)
    with serving(Hub(NAME, model(2, 3_000_000))) as hub:
        patience = Patience()
        pin = download(Client(hub.url, patience), store, NAME, "main", patience, silent)
    planned = make.Plan((), pin, store.folder(NAME, pin.revision), "# made\n")
    return bundle(planned, make.Options(folder / "bundle", key, part_bytes=2_000_000))


def bundle(planned: make.Plan, options: make.Options) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "_wheels", lambda _: [])
        return make.make(planned, options, lambda _: None)


@pytest.fixture
def far(tmp_path: Path, made: Path, key: Path) -> Far:
    return Far(tmp_path / "a far\nside", made, key)


def test_bash_coreutils_openssl_and_docker_are_enough(far: Far) -> None:
    done = far.install("cloister/", umask=0o077)
    assert done.returncode == 0, done.stderr
    assert "which the packages are for" in done.stderr
    far.assert_installed()
    # The engines are another user.
    paths = [path for path in far.into.rglob("*") if not path.is_symlink()]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in paths)
    assert all(path.stat().st_mode & 0o011 for path in paths if path.is_dir())
    assert os.access(far.into / "scripts" / "bundle.sh", os.X_OK)
    found = {str(p.relative_to(far.into)) for p in far.into.rglob("*") if p.is_file()}
    project = far.bundle / "project"
    signed = {str(p.relative_to(project)) for p in project.rglob("*") if p.is_file()}
    assert {name for name in found if not name.startswith("models/acme/")} == signed


@pytest.mark.parametrize("number", range(REPETITIONS.script_flips))
def test_a_flipped_byte_is_refused_before_docker_is_asked(far: Far, number: int) -> None:
    chance = random.Random(number)  # nothing secret
    files = sorted(path for path in far.bundle.rglob("*") if path.is_file() and path.stat().st_size)
    first = [far.bundle / name for name in ("SHA256SUMS", "SHA256SUMS.sig", "CONTENTS")]
    path = first[number] if number < len(first) else chance.choice(files)
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.unlink()  # it is a link to the one of all tests
    path.write_bytes(content)
    assert "nothing of it was used" in far.refused(far.install())
    assert not (far.folder / "asked").exists()
    assert not far.into.exists()


def test_who_has_another_key_cannot_sign(far: Far, tmp_path: Path) -> None:
    """Everything is right but for who says so."""
    public = signing.make_key(tmp_path / "other")
    (far.bundle / "SHA256SUMS.sig").unlink()
    signing.sign(far.bundle / "SHA256SUMS", tmp_path / "other")
    assert "is not of this key" in far.refused(far.install())
    assert not (far.folder / "asked").exists()
    shutil.copy(public, far.folder / "key.pub")
    assert far.install().returncode == 0


def kill_at(far: Far, program: str, number: int) -> None:
    """Let the script be killed when it runs a program for that time."""
    counter = far.folder / "count"
    counter.write_text("x" * (number - 1))
    real = shutil.which(program)
    far.program(
        program,
        f'#!/usr/bin/bash\nif [ -e "{counter}" ]; then\n'
        f'left=$(< "{counter}"); if [ -z "$left" ]; then /usr/bin/rm "{counter}"; '
        f'kill -9 0; fi\nprintf %s "${{left#x}}" >"{counter}"\nfi\n'
        f'exec "{real}" "$@"\n',
    )


def test_a_bundle_without_a_model_keeps_the_one_that_is_there(
    far: Far, key: Path, tmp_path: Path
) -> None:
    assert far.install().returncode == 0
    shard = far.into / "models" / NAME / COMMIT / "model-00001-of-00002.safetensors"
    before = shard.stat().st_ino
    shutil.rmtree(far.bundle)
    bundle(make.Plan((), None, None, "# newer\n"), make.Options(tmp_path / "new", key))
    (tmp_path / "new").rename(far.bundle)
    done = far.install()
    assert done.returncode == 0, done.stderr
    far.assert_installed()
    assert shard.stat().st_ino == before, "the weights were copied"
    assert (far.into / "cloister.yaml").read_text() == "# made\n"


_STEPS = (("head", 6), ("cp", 1), ("sha256sum", 3), ("touch", 1), ("mv", 1))


@pytest.mark.parametrize(
    ("program", "number", "upgrade"),
    [
        *((program, number, False) for program, number in _STEPS),
        *((program, number, True) for program, number in _STEPS),
        *(("cp", 2, True), ("cp", 3, True), ("mv", 2, True)),
    ],
)
def test_killed_at_any_step_it_can_be_run_again(
    far: Far, program: str, number: int, *, upgrade: bool
) -> None:
    if upgrade:
        assert far.install().returncode == 0
        (far.into / "cloister.yaml").write_text("# mine\n")
        (far.into / ".cloister").mkdir()
        (far.into / ".cloister" / "record").touch()
        (far.into / "old").touch()
    kill_at(far, program, number)
    assert far.install().returncode == -signal.SIGKILL
    done = far.install()
    assert done.returncode == 0, done.stderr
    far.assert_installed()
    text = (far.into / "cloister.yaml").read_text()
    assert text == ("# mine\n" if upgrade else "# made\n")
    assert not (far.into / "old").exists()
    if upgrade:
        assert (far.into / ".cloister" / "record").exists()
        assert (far.folder / "cloister.previous" / "old").exists()


def test_killed_at_the_end_the_one_that_worked_is_still_there(far: Far) -> None:
    assert far.install().returncode == 0
    (far.into / "old").touch()
    short = far.python()
    far.program(f"python{short}", f'#!/usr/bin/bash\n[ "$1" != -c ] || echo {short}; exit 1\n')
    done = far.install()
    assert "cannot make an environment" in far.refused(done)
    for _ in range(2):
        assert (far.folder / "cloister.previous" / "old").exists()
        far.install()
    (far.bin / f"python{short}").unlink()
    assert far.install().returncode == 0
    assert (far.folder / "cloister.previous" / "old").exists()
    far.assert_installed()


@pytest.mark.parametrize(
    "change",
    [
        'echo evil >"$FAR/bundle/project/cloister/__init__.py"',
        'echo evil >"$FAR/bundle/model/config.json.000"',
        'cat "$FAR/bundle/model/"*1-of*.000 >"$FAR/x"; mv "$FAR/x" "$FAR/bundle/model/"*2-of*.000',
        'echo evil >"$FAR/bundle/model/READY.000"',
        'rm "$FAR/bundle/model/"*1-of*.001',
    ],
)
def test_what_changes_after_it_was_checked_is_not_installed(far: Far, change: str) -> None:
    (far.folder / "on-load").write_text(f"cd /; {unlinked(change)}\n")
    assert "copied" in far.refused(far.install())
    assert not far.into.exists()


def unlinked(change: str) -> str:
    """Return a change for this bundle alone: its files are links to the ones of all tests."""
    own = 'cp -R "$FAR/bundle" "$FAR/own"; rm -rf "$FAR/bundle"; mv "$FAR/own" "$FAR/bundle"'
    return f"{own}; {change}"


def test_what_is_added_after_it_was_checked_is_not_installed(far: Far) -> None:
    added = 'touch "$FAR/bundle/project/yaml.py" "$FAR/bundle/project/cloister/x.py"'
    shard = 'echo evil >"$FAR/bundle/model/model-00001-of-00002.safetensors.002"'
    signed = 'echo >"$FAR/bundle/SHA256SUMS" >"$FAR/bundle/CONTENTS"'
    (far.folder / "on-load").write_text(f"{unlinked(added)}; {shard}; {signed}\n")
    assert far.install().returncode == 0
    far.assert_installed()
    assert not (far.into / "yaml.py").exists()
    assert not (far.into / "cloister" / "x.py").exists()


# What a stranger does to a bundle, none of which may take its reader longer than a bundle does.
HOSTILE = {
    "a name of 15 TB": "truncate -s 15T project/README.md",
    "images of 15 TB": "truncate -s 15T images.tar.000",
    "a list of 15 TB": "truncate -s 15T SHA256SUMS",
    "sizes of 15 TB": "truncate -s 15T SIZES",
    "contents of 15 TB": "truncate -s 15T CONTENTS",
    "a signature of 15 TB": "truncate -s 15T SHA256SUMS.sig",
    "a byte more": "echo >>CONTENTS",
    "a byte more of a model": "printf x >>model/config.json.000",
    "a byte less": "truncate -s -1 project/README.md",
    "nothing": ": >project/README.md",
    "no sizes": "rm SIZES",
    "other sizes": "sed -i s/^1/2/ SIZES",
    "a pipe as the sizes": "rm SIZES; mkfifo SIZES",
    "a folder as the sizes": "rm SIZES; mkdir SIZES",
    "a device as the contents": "rm CONTENTS; ln -s /dev/zero CONTENTS",
    "a link out of it": "ln -sf /etc/passwd project/README.md",
    "a link to a folder": "mv model x; ln -s x model",
    "a file in the place of a folder": "rm -r model; touch model",
    "a name that was not signed": "touch project/yaml.py",
    "a name of two lines": "touch $'project/a\\nb'",
    "a line more in the list": "echo x >>SHA256SUMS",
    "a path that leads out": 'echo "$(printf %064d 0)  ../x" >>SHA256SUMS',
    "an empty list": ": >SHA256SUMS",
    "an empty signature": ": >SHA256SUMS.sig",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bundle_that_a_stranger_changed_is_refused(far: Far, kind: str) -> None:
    change = unlinked(f'cd "$FAR/bundle"; {HOSTILE[kind]}')
    subprocess.run(
        ["bash", "-ec", f"cd /; {change}"],
        env={"FAR": str(far.folder), "PATH": os.environ["PATH"]},
        check=True,
    )
    assert far.refused(far.install())
    assert not (far.folder / "asked").exists(), "Docker was asked before all was verified"
    assert not far.into.exists()


def hold_verification(far: Far) -> None:
    """Let the reading of the whole bundle never end, and `reading` tell that it began."""
    far.program(
        "sha256sum",
        '#!/usr/bin/bash\ncase "$*" in *lists.sum) exec '
        f'"{shutil.which("sha256sum")}" "$@" ;; esac\n'
        '/usr/bin/touch "$FAR/reading"\nexec /usr/bin/sleep 60\n',
    )


def test_ctrl_c_on_a_terminal_ends_the_verification(far: Far) -> None:
    hold_verification(far)
    controller, terminal = pty.openpty()
    # The leader of a session gets the first terminal that it opens as its own.
    command = 'exec <"$0" ./bundle.sh verify bundle --key key.pub'
    with subprocess.Popen(
        ["/usr/bin/bash", "-c", command, os.ttyname(terminal)],
        env=far.environment,
        cwd=far.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as program:
        try:
            eventually((far.folder / "reading").stat)
            os.write(controller, b"\x03")
            said, _ = program.communicate(timeout=30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            os.close(controller)
            os.close(terminal)
    assert program.returncode == 130, said
    assert "verified" not in said
    assert "error: " not in said
    assert not list((far.folder / "tmp").iterdir())


def test_a_verification_that_does_not_end_is_no_forged_bundle(far: Far) -> None:
    """As of a file that grows, or of a medium that stopped."""
    hold_verification(far)
    far.program(
        "timeout",
        '#!/usr/bin/bash\nwhile [[ "$1" != sha256sum ]]; do shift; done\n'
        f'exec "{shutil.which("timeout")}" --foreground 0.2 "$@"\n',
    )
    done = far.run("verify", "bundle", "--key", "key.pub")
    said = far.refused(done)
    assert "did not end within" in said
    assert "not what was signed" not in said
    assert "hint: " in said


def test_a_program_that_fails_is_no_forged_bundle(far: Far) -> None:
    far.program("timeout", "#!/usr/bin/bash\nkill -9 $$\n")
    said = far.refused(far.run("verify", "bundle", "--key", "key.pub"))
    assert "code 137" in said
    assert "not what was signed" not in said


def test_room_for_the_copy_of_a_part_is_required_where_it_is_made(far: Far) -> None:
    """A full `$TMPDIR`, often in memory, is asked for the lists alone."""
    with (far.bundle / "images.tar.000").open("rb") as file:
        size = os.fstat(file.fileno()).st_size
    largest = max(path.stat().st_size for path in far.bundle.glob("images.tar.*"))
    assert size == largest
    du = "#!/usr/bin/bash\necho $'1000\\ttotal'\n"
    far.program("du", du)
    for free, enough in ((1000 + largest // 1024, False), (1002 + largest // 1024, True)):
        far.program("df", f'#!/usr/bin/bash\n[ "$1" = -k ] && echo {free} || echo /\n')
        done = far.install()
        assert (done.returncode == 0) == enough, done.stderr
        assert ("KiB are needed" in done.stderr) != enough
    assert not list((far.folder / "tmp").iterdir())


def test_the_copy_of_a_part_lies_where_room_was_required(far: Far) -> None:
    (far.folder / "on-load").write_text(
        'for name in "$FAR"/tmp/*/part "$FAR"/cloister.*/part; do [ -e "$name" ] && '
        'echo "${name#"$FAR"/}"; done >"$FAR/copies"; true\n'
    )
    assert far.install().returncode == 0
    assert (far.folder / "copies").read_text() == "cloister.installing/part\n"
    far.assert_installed()


def test_images_that_change_after_they_were_checked_are_not_loaded(far: Far) -> None:
    change = 'size="$(stat -c %s "$FAR/bundle/images.tar.000")"; printf evil >"$FAR/evil"'
    grown = 'truncate -s "$size" "$FAR/evil"; mv "$FAR/evil" "$FAR/bundle/images.tar.000"'
    shutil.copy(str(shutil.which("truncate")), far.bin)
    (far.folder / "on-info").write_text(f"cd /; {unlinked(f'{change}; {grown}')}\n")
    assert "images.tar.000 is not what was verified" in far.refused(far.install())
    assert b"evil" not in (far.folder / "loaded").read_bytes()
    assert not far.into.exists()


@pytest.mark.parametrize("name", ["README.md", "docs"])
def test_a_link_that_comes_after_the_check_brings_nothing_out(far: Far, name: str) -> None:
    """As root, who reads what nobody else may."""
    secret = far.folder / "secret"
    secret.write_text("mine")
    (far.bin / "ln").symlink_to(str(shutil.which("ln")))
    link = f'rm -r "$FAR/bundle/project/{name}"; ln -s "$FAR/secret" "$FAR/bundle/project/{name}"'
    (far.folder / "on-load").write_text(f"cd /; {unlinked(link)}\n")
    assert "copied" in far.refused(far.install())
    assert (far.folder / "cloister.installing").stat().st_mode & 0o077 == 0
    assert not far.into.exists()


def test_a_folder_of_somebody_else_is_left_alone(far: Far) -> None:
    far.into.mkdir()
    (far.into / "mine").touch()
    assert "something else than Cloister" in far.refused(far.install())
    assert [path.name for path in far.into.iterdir()] == ["mine"]
    (far.into / "mine").unlink()
    assert far.install().returncode == 0
    assert not (far.folder / "cloister.previous").exists()


def test_what_is_up_is_not_moved_away(far: Far) -> None:
    assert far.install().returncode == 0
    (far.folder / "running").write_text("0123456789ab\n")
    done = far.install()
    assert "is up" in far.refused(done)
    assert f"hint: cd {far.into} && .venv/bin/invoke down" in done.stderr
    assert not (far.folder / "cloister.previous").exists()


@pytest.mark.parametrize(
    ("openssl", "words"),
    [
        ('#!/usr/bin/bash\n[ "$1" = version ] && echo OpenSSL 1.1.1w\nexit 1\n', "OpenSSL 1.1.1w"),
        (None, "openssl is not installed"),
    ],
)
def test_an_openssl_that_cannot_check_is_no_wrong_signature(
    far: Far, openssl: str | None, words: str
) -> None:
    (far.bin / "openssl").unlink()
    if openssl:
        far.program("openssl", openssl)
    done = far.run("verify", "bundle", "--key", "key.pub")
    assert words in far.refused(done)
    assert "hint: install OpenSSL 3.0" in done.stderr


def test_a_pipe_in_the_place_of_a_file_does_not_hold_it_up(far: Far) -> None:
    path = far.bundle / "project" / "README.md"
    path.unlink()
    os.mkfifo(path)
    assert "is no file" in far.refused(far.install())


def test_too_small_a_disk_is_said_before_anything_is_loaded(far: Far) -> None:
    far.program("df", '#!/usr/bin/bash\n[ "$1" = -k ] && echo 7 || echo /\n')
    (far.folder / "on-load").write_text('touch "$FAR/loaded"\n')
    assert "has 7 KiB free" in far.refused(far.install())
    assert not (far.folder / "loaded").exists()


def test_a_flag_without_a_value_is_said(far: Far) -> None:
    assert "--key needs a value" in far.refused(far.run("verify", "bundle", "--key"))


def test_the_python_that_the_packages_are_for_is_found(far: Far) -> None:
    short = far.python()
    far.program("python3", "#!/usr/bin/bash\necho 9.9\n")
    far.program(
        f"python{short}",
        f'#!/usr/bin/bash\ncase "$1 $2" in -c*) echo {short} ;; "-m venv") mkdir -p "$4/bin" && '
        'cp "$0" "$4/bin/python" ;; esac\n',
    )
    done = far.install()
    assert done.returncode == 0, done.stderr
    assert ".venv/bin/invoke up" in done.stderr
    far.assert_installed()
