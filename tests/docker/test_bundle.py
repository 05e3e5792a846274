"""A bundle from one machine to another that has no network at all."""

import itertools
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import hub as fake
import pytest
from conftest import TAG, Containers
from deployments import ROOT, free_ports
from downloads import patiently
from repetitions import REPETITIONS

from cloister.bundle import make, signing
from cloister.downloader.asking import Patience
from cloister.downloader.download import Progress, download
from cloister.downloader.hub import Hub as Client
from cloister.errors import BundleError
from cloister.modelstore.store import Store

FLIPS = REPETITIONS.image_flips
_FAR = """
ip link set lo up
dockerd --data-root "$FAR/data" --exec-root "$FAR/exec" --pidfile "$FAR/pid" \\
    -H "$DOCKER_HOST" >"$FAR/log" 2>&1 &
engine=$!
trap 'kill $engine; wait $engine' EXIT
until docker info >/dev/null 2>&1; do kill -0 $engine; sleep 0.2; done
! ip route | grep -v docker0
docker images --quiet | wc -l
"$FAR/bundle.sh" install "$FAR/bundle" --key "$FAR/key.pub" --into "$FAR/cloister"
cd "$FAR/cloister"
.venv/bin/invoke up
.venv/bin/invoke ocr samples/letter.png --out "$FAR/read"
.venv/bin/invoke verify --json >"$FAR/verify.json"
! "$FAR/bundle.sh" install "$FAR/bundle" --key "$FAR/key.pub" --into "$FAR/cloister" 2>"$FAR/up"
grep --quiet "is up" "$FAR/up"
.venv/bin/invoke down
echo "# kept" >>cloister.yaml
"$FAR/bundle.sh" install "$FAR/bundle" --key "$FAR/key.pub" --into "$FAR/cloister"
grep --quiet "# kept" cloister.yaml
.venv/bin/invoke up
.venv/bin/invoke down
"""


@pytest.fixture(scope="module")
def command(images: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Containers:
    del images
    state = tmp_path_factory.mktemp("near")
    (state / "cloister.yaml").touch()
    settings = {"RUNTIME": "docker", "ENGINE": "tesseract", "DOCKER_TAG": TAG}
    return Containers(state, 8001, {f"CLOISTER_{key}": text for key, text in settings.items()})


@pytest.fixture(scope="module")
def key(command: Containers) -> Path:
    path = command.state / "keys" / "cloister.key"
    command.invoke("bundle.keygen", "--key", str(path))
    assert path.stat().st_mode & 0o077 == 0
    return path


@pytest.fixture
def far(key: Path) -> Iterator[Path]:
    """A folder that has what comes on another way: the script and the public key."""
    # Not pytest's own folder: the path of a socket below it has room for 107 bytes.
    with tempfile.TemporaryDirectory(prefix="far-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(ROOT / "scripts" / "bundle.sh", folder)
        shutil.copy(key.with_name("cloister.key.pub"), folder / "key.pub")
        yield folder


def test_installed_up_and_sealed_without_a_network(
    command: Containers, key: Path, far: Path
) -> None:
    out = far / "bundle"
    flags = ("--key", str(key), "--out", str(out), "--part-mib", "64")
    for attempt in patiently(within_s=600):  # it brings the Python packages
        with attempt:
            command.invoke("bundle", *flags, timeout_s=1200)
    assert len(list(out.glob("images.tar.0*"))) >= 3
    (port,) = (free_ports(1),)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(far),
        "FAR": str(far),
        "DOCKER_HOST": f"unix://{far}/docker.sock",
        "CLOISTER_STATE_DIR": str(far / "state"),
        "CLOISTER_GATEWAY_PORT": str(port),
    }
    done = subprocess.run(
        ["unshare", "--net", "--mount", "bash", "-euo", "pipefail", "-c", _FAR],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=2500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == "0", "the far engine has images of its own"
    assert "files are what was signed" in done.stderr
    (read,) = (far / "read").glob("*.md")
    assert "Conway-Ferguson" in read.read_text()
    assert json.loads((far / "verify.json").read_text())["sealed"]
    bill = json.loads((out / "sbom.cdx.json").read_text())
    found = {component["name"] for component in bill["components"]}
    assert {"cloister/gateway", "cloister/exporter", "cloister/engine-tesseract"} <= found
    engine = next(c for c in bill["components"] if c["name"] == "cloister/engine-tesseract")
    assert {"libc6", "tesserocr"} <= {package["name"] for package in engine["components"]}


@pytest.fixture(scope="module")
def small(
    command: Containers, key: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Store]:
    """A bundle of one image and a model, in parts."""
    del command
    folder = tmp_path_factory.mktemp("small")
    store = Store(folder / "models")
    silent = Progress(lambda _: None, lambda _: None, lambda _: None)
    with fake.serving(fake.Hub("acme/Reader", fake.model(2, 3_000_000))) as hub:
        client = Client(hub.url, Patience())
        pin = download(client, store, "acme/Reader", "main", Patience(), silent)
    planned = make.Plan(
        (f"cloister/gateway:{TAG}",), pin, store.folder(pin.model, pin.revision), "# none\n"
    )
    options = make.Options(folder / "bundle", key, part_bytes=2_000_000)
    return make.make(planned, options, lambda _: None), store


@pytest.fixture
def no_docker(tmp_path: Path) -> Path:
    """A folder with a `docker` that only tells that it was called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    (folder / "docker").chmod(0o755)
    return folder


def install(bundle: Path, far: Path, path: str) -> subprocess.CompletedProcess[str]:
    flags = ("--key", str(far / "key.pub"), "--into", str(far / "cloister"))
    return subprocess.run(
        [str(far / "bundle.sh"), "install", str(bundle), *flags],
        env={"PATH": f"{path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def linked(bundle: Path, to: Path) -> Path:
    subprocess.run(["cp", "-Rl", str(bundle), str(to)], check=True)
    return to


def test_every_flipped_byte_is_refused_before_anything_is_loaded(
    small: tuple[Path, Store], far: Path, no_docker: Path
) -> None:
    bundle, _ = small
    chance = random.Random(6)  # nothing secret
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and path.stat().st_size)
    sizes = [path.stat().st_size for path in files]
    # Half of them anywhere among the bytes, half in any of the files.
    chosen = chance.choices(files, weights=sizes, k=FLIPS // 2) + chance.choices(
        files, k=FLIPS // 2 - 4
    )
    chosen += [bundle / name for name in ("SHA256SUMS", "SHA256SUMS.sig", "CONTENTS", "bundle.sh")]
    numbers = itertools.count()

    def flipped(original: Path) -> subprocess.CompletedProcess[str]:
        copy = linked(bundle, far / f"flipped-{next(numbers)}")
        path = copy / original.relative_to(bundle)
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.unlink()
        path.write_bytes(content)
        done = install(copy, far, str(no_docker))
        shutil.rmtree(copy)
        return done

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(flipped, chosen))
    assert len(results) == FLIPS
    assert {done.returncode for done in results} == {BundleError.exit_code}
    assert not (no_docker.parent / "called").exists()
    assert not (far / "cloister").exists()


def _add(bundle: Path) -> None:
    (bundle / "project" / "more.py").write_text("import os")


def _link(bundle: Path) -> None:
    (bundle / "project" / "more").symlink_to("/etc/passwd")


def _lose(bundle: Path) -> None:
    next(bundle.glob("images.tar.001")).unlink()


def _swap(bundle: Path) -> None:
    first, second = sorted((bundle / "model").glob("*.safetensors.00[01]"))[:2]
    first.rename(bundle / "model" / "x")
    second.rename(first)
    (bundle / "model" / "x").rename(second)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_add, "was not signed"),
        (_link, "is a link"),
        (_lose, "is not what was signed"),
        (_swap, "is not what was signed"),
    ],
)
def test_what_was_not_signed_is_refused(
    small: tuple[Path, Store],
    far: Path,
    no_docker: Path,
    change: Callable[[Path], None],
    words: str,
) -> None:
    bundle = linked(small[0], far / "bundle")
    change(bundle)
    done = install(bundle, far, str(no_docker))
    assert (done.returncode, words in done.stderr) == (BundleError.exit_code, True), done.stderr
    assert not (no_docker.parent / "called").exists()


def test_another_key_is_refused(
    small: tuple[Path, Store], command: Containers, far: Path, no_docker: Path
) -> None:
    signing.make_key(far / "other")
    (far / "other.pub").rename(far / "key.pub")
    assert "not of this key" in install(small[0], far, str(no_docker)).stderr
    assert not (no_docker.parent / "called").exists()
    flags = ("--bundle", str(small[0]), "--key", str(far / "key.pub"))
    said = command.invoke("bundle.verify", *flags, code=BundleError.exit_code).stderr
    assert "hint: check the key" in said


def test_parts_become_the_model_again(small: tuple[Path, Store], far: Path) -> None:
    bundle, store = small
    assert len(list((bundle / "model").glob("*.safetensors.*"))) == 4
    # The packages were installed by the other test; without Python the rest is the same.
    path = far / "bin"
    path.mkdir()
    wanted = (
        *("bash", "cat", "chmod", "cp", "cut", "df", "dirname", "docker", "du", "env", "head"),
        *("mkdir", "mktemp", "mv", "openssl", "rm", "rmdir", "sha256sum", "stat", "tail"),
        *("timeout", "touch"),
    )
    for name in wanted:
        (path / name).symlink_to(str(shutil.which(name)))
    environment = {"PATH": str(path), "HOME": os.environ["HOME"]}
    flags = ("--key", str(far / "key.pub"), "--into", str(far / "cloister"))
    command = [str(far / "bundle.sh"), "install", str(bundle), *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "which the packages are for" in done.stderr
    installed = Store(far / "cloister" / "models")
    assert installed.verify("acme/Reader", fake.COMMIT).files == (
        store.verify("acme/Reader", fake.COMMIT).files
    )


def test_what_cannot_be_made_is_said(command: Containers, key: Path, tmp_path: Path) -> None:
    code = BundleError.exit_code
    assert "there is no key" in command.invoke("bundle", "--key", "/nowhere", code=code).stderr
    assert "exists" in command.invoke("bundle.keygen", "--key", str(key), code=code).stderr
    out = ("--out", str(tmp_path / "out"), "--key", str(key))
    said = command.invoke("bundle", *out, "--set", "docker.tag=none", code=code).stderr
    assert "`cloister/gateway:none` was not built" in said
    assert list(tmp_path.iterdir()) == []
    key.chmod(0o644)
    assert "others may read the key" in command.invoke("bundle", *out, code=code).stderr
    key.chmod(0o600)
