"""Publishing to a real registry, as docs/publishing.md says it; then each step broken in turn."""

import contextlib
import datetime as dt
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
import requests
from conftest import TAG as TESTED
from conftest import Containers, Registry, required
from deployments import ROOT, eventually, free_ports
from docker.errors import ImageNotFound
from downloads import run_patiently
from publications import (
    ASK_S,
    PASSWORD,
    Clone,
    commit,
    delete,
    digest_of,
    git,
    manifest,
    put,
    refused,
    shim,
    way,
)

import cloister
from cloister import images as our_images
from cloister.images import lock

BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "publishing.md").read_text(), re.DOTALL)
PUBLISHED = ("gateway", "exporter", "engine-tesseract", "downloader")
STAND_IN = "cloister-base/debian:trixie-slim"
TAG = f"{TESTED}-publishing"
BRIDGE = f"cl-{TESTED[-8:]}"  # 15 characters at most
STATEMENTS = ["attest cyclonedx", "attest spdxjson", "attest slsaprovenance1"]
_NUMBERS = itertools.count(1)
# Debian 12 has no cosign; the stand-in base is a newer Debian.
_COSIGN = "apt-get -qq update && apt-get -qq install -y --no-install-recommends cosign >&2"


@pytest.fixture(scope="module")
def tools(images: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH that has cosign, this machine's or Debian's."""
    del images
    required("skopeo")
    folder = tmp_path_factory.mktemp("tools")
    installed = shutil.which("cosign")
    if installed:
        (folder / "cosign").symlink_to(installed)
        return folder
    script = f"{_COSIGN} && cat /usr/bin/cosign"
    command = ["docker", "run", "--rm", "--network=host", STAND_IN, "sh", "-ec", script]
    program = run_patiently(command, stdout=subprocess.PIPE, timeout=900).stdout
    (folder / "cosign").write_bytes(program)
    (folder / "cosign").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def environment(tools: Path) -> dict[str, str]:
    """What a publisher has in the environment, and nothing of CI's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLOISTER_", "GITHUB_"))}
    own = {"CLOISTER_DOCKER_TAG": TAG, "COSIGN_PASSWORD": PASSWORD}
    return {**kept, **own, "PATH": f"{tools}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def source(
    images: docker.DockerClient, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """This tree as a tagged commit, its Debian base in our registry and locked there."""
    root = tmp_path_factory.mktemp("source") / "cloister"
    listed = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    base = f"{registry}/bases/debian:trixie-slim"
    images.images.get(STAND_IN).tag(base)
    images.images.push(base)
    pushed = images.images.get(base).attrs["RepoDigests"]
    (digest,) = [each.partition("@")[2] for each in pushed if each.startswith(registry)]
    catalogue = root / "images" / "images.yaml"
    text = catalogue.read_text().replace("base: debian:trixie-slim\n", f"base: {base}\n")
    catalogue.write_text(text)
    locked = lock.Locked(digest=digest, date=dt.datetime.now(dt.UTC).date())
    lock.write({base: locked}, root / "images" / lock.FILE_NAME)
    git(root, "init", "--quiet", "--initial-branch=main")
    commit(root)
    git(root, "tag", f"v{cloister.VERSION}")
    yield root
    for image in images.images.list():
        for name in (*image.tags, *(image.attrs["RepoDigests"] or ())):
            # By name: the same image may have names of others, such as the stand-in's.
            if name.startswith(f"{registry}/") or name.endswith(f":{TAG}"):
                with contextlib.suppress(ImageNotFound):  # it went with its tag
                    images.images.remove(name)


@pytest.fixture(scope="module")
def key(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("key")
    command = ["cosign", "generate-key-pair"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder / "cosign.key"


@pytest.fixture
def clone(source: Path, environment: dict[str, str], registry: str) -> Iterator[Clone]:
    """A clean clone whose images go where nothing is yet."""
    # Not pytest's own folder: that of a state may have 80 bytes.
    with tempfile.TemporaryDirectory(prefix="cloister-") as folder:
        root = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", str(source), str(root)], check=True)
        yield Clone(root, environment, f"{registry}/org-{next(_NUMBERS)}")


@pytest.fixture(scope="module")
def empty_engine(
    client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[docker.DockerClient]:
    """A second engine that has nothing, and leaves the rules and networks of the first alone."""
    del client
    required("dockerd")
    folder = Path(tempfile.mkdtemp(prefix="cloister-"))  # a socket's path has room for 107 bytes
    # With `--bridge=none` an engine removes docker0, which is the other one's.
    link(*f"add name {BRIDGE} type bridge".split())
    alone = (f"--bridge={BRIDGE}", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
    names = [f"--containerd-{kind}={BRIDGE}-{kind}" for kind in ("namespace", "plugins-namespace")]
    places = [f"--{name}={folder / name}" for name in ("data-root", "exec-root", "pidfile")]
    socket = f"unix://{folder / 'socket'}"
    log = (tmp_path_factory.mktemp("engine") / "log").open("wb")
    command = ["dockerd", f"--host={socket}", *alone, *names, *places]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as program:
        try:
            eventually(lambda: answers(socket), within_s=400)
            made = docker.DockerClient(base_url=socket)
            assert made.images.list() == []
            yield made
            made.close()
        finally:
            program.terminate()
            try:
                program.wait(120)
            finally:
                program.kill()
            link("delete", BRIDGE)
    shutil.rmtree(folder, ignore_errors=True)


def answers(socket: str) -> None:
    command = ["docker", f"--host={socket}", "info"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def link(*words: str) -> None:
    subprocess.run(["ip", "link", *words], check=True)


# The whole way


@pytest.fixture(scope="module")
def published(
    source: Path,
    environment: dict[str, str],
    registry: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Clone:
    """The first block of docs/publishing.md, as it stands."""
    folder = tmp_path_factory.mktemp("publisher")
    own = {"SOURCE": str(source), "REGISTRY": f"{registry}/cloister"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", BLOCKS[0]],
        cwd=folder,
        env={**environment, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=2400,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    assert PASSWORD not in done.stdout + done.stderr
    return Clone(folder / "cloister", environment, own["REGISTRY"])


def test_the_sequence_of_the_document_publishes_every_image(published: Clone) -> None:
    version = cloister.VERSION
    for name in PUBLISHED:
        tags = published.tags(name)
        assert {"latest", version, version.rpartition(".")[0]} <= set(tags)
        repository = f"{published.registry}/{name}"
        digests = {digest_of(repository, tag) for tag in tags}
        assert len(digests) == 1
        written = published.root.parent / "published"
        text = (written / f"{name}.md").read_text()
        assert digests.pop() in text
        assert "not scanned: there is no grype and no trivy" in text
        assert json.loads((written / f"{name}.spdx.json").read_text())["packages"]
        assert json.loads((written / f"{name}.cyclonedx.json").read_text())["components"]


def test_a_rerun_sends_nothing(published: Clone, registry_program: Registry) -> None:
    flags = ("--registry", published.registry, "--key", "../cosign.key", "--release", "--json")
    before = registry_program.log.read_text().count("\n")
    again = json.loads(published.invoke("images.publish", *flags).stdout)
    asked = registry_program.log.read_text().splitlines()[before:]
    assert [one["done"] for one in again] == [[]] * len(PUBLISHED)
    assert all(not one["set"] and "latest" in one["kept"] for one in again)
    assert any('"GET /v2/' in line for line in asked)
    assert not [line for line in asked if re.search(r'"(PUT|POST|PATCH) /v2/', line)]
    planned = json.loads(published.invoke("images.publish", *flags, "--dry-run").stdout)
    assert [one["to do"] for one in planned] == [[]] * len(PUBLISHED)


def test_who_pulls_gets_the_very_image_that_was_tested(
    published: Clone, empty_engine: docker.DockerClient, images: docker.DockerClient
) -> None:
    for name in PUBLISHED:
        repository = f"{published.registry}/{name}"
        digest = digest_of(repository, "latest")
        pulled = empty_engine.images.pull(repository, digest)
        tested = images.images.get(f"cloister/{name}:{TAG}")
        assert pulled.id == tested.id
        assert pulled.attrs["Config"].get("Healthcheck") == tested.attrs["Config"].get(
            "Healthcheck"
        )
        image = our_images.catalogue()[name]
        assert our_images.verify(image, our_images.inspect(empty_engine, str(pulled.id))) == ()


def test_what_was_pulled_runs_sealed(
    published: Clone,
    images: docker.DockerClient,
    make_containers: Callable[..., Containers],
) -> None:
    version = cloister.VERSION
    for name in PUBLISHED[:3]:
        repository = f"{published.registry}/{name}"
        pulled = images.images.pull(repository, version)
        assert f"{repository}@{digest_of(repository, version)}" in pulled.attrs["RepoDigests"]
    made = make_containers(docker_images=published.registry, docker_tag=version)
    made.invoke("up")
    findings = made.verify()
    assert findings
    made.invoke("down")


def test_the_proof_names_what_was_proven(published: Clone, source: Path) -> None:
    reference = f"{published.registry}/gateway:{cloister.VERSION}"
    flags = ("--key", "../cosign.pub")
    proof = json.loads(published.invoke("images.verify", reference, *flags, "--json").stdout)
    head = subprocess.run(
        ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    assert proof["revision"] == head.stdout.strip()
    assert proof["image"] == "gateway"
    (locked,) = lock.read(source / "images" / lock.FILE_NAME).values()
    assert proof["base_digest"] == locked.digest
    assert proof["packages"] > 5
    assert proof["digest"] in published.invoke("images.verify", reference, *flags).stdout
    said = published.invoke("images.verify", reference, code=16).stderr
    assert "whose signature is to count?" in said


def test_what_cosign_alone_says_and_what_is_carried(
    published: Clone, environment: dict[str, str], tmp_path: Path
) -> None:
    shutil.copy(published.root.parent / "cosign.pub", tmp_path)
    name = f"{published.registry}/gateway"
    internal = f"{name}-inside:{cloister.VERSION}"
    own = {"REFERENCE": f"{name}@{digest_of(name, 'latest')}", "INTERNAL": internal}
    # Only tests have a registry that speaks plain HTTP.
    plain = 'cosign() { command cosign "$1" --allow-http-registry "${@:2}"; }'
    script = "\n".join([plain, *BLOCKS[1:]])
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**environment, **own},
        check=True,
        capture_output=True,
        timeout=1800,
    )
    assert digest_of(*internal.rsplit(":", 1)) == own["REFERENCE"].partition("@")[2]
    published.invoke("images.verify", internal, "--key", "../cosign.pub")


# Who tampers


def test_what_somebody_changed_is_not_proven(
    clone: Clone, key: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    name = f"{clone.registry}/gateway"
    clone.publish("--key", str(key))
    key = key.with_suffix("")
    (tag,) = clone.tags()
    clone.invoke("images.verify", f"{name}:{tag}", "--key", f"{key}.pub")

    command = ["cosign", "generate-key-pair"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    refused(clone, tag, tmp_path / "cosign", "is not signed by key")

    whole = manifest(name, tag).content
    put(name, "other", json.dumps({**json.loads(whole), "annotations": {}}).encode())
    refused(clone, "other", key, "is not signed by key")
    refused(clone, "nothing", key, "is not there")

    attached = f"{clone.digest(tag).replace(':', '-')}.att"
    content = json.loads(manifest(name, attached).content)
    wanted = [
        each
        for each in content["layers"]
        if each["annotations"]["predicateType"] != "https://cyclonedx.org/bom"
    ]
    assert len(wanted) == len(content["layers"]) - 1
    put(name, attached, json.dumps({**content, "layers": wanted}).encode())
    refused(clone, tag, key, "has no cyclonedx attestation")
    delete(name, attached)
    refused(clone, tag, key, "has no cyclonedx attestation")
    # The publisher puts back what was taken away, and nothing else.
    assert clone.told("--key", f"{key}.key")["done"] == STATEMENTS
    clone.invoke("images.verify", f"{name}:{tag}", "--key", f"{key}.pub")


# What breaks

FAILS = 'echo "error: the network is down" >&2; exit 1'


VERSION = re.escape(cloister.VERSION)


@pytest.mark.parametrize(
    ("broken", "tagged", "first"),
    [
        (("skopeo", r"copy.*@sha256:[0-9a-f]+$"), 0, "push"),
        (("cosign", "^attest.*spdxjson"), 0, "attest spdxjson"),
        (("skopeo", "copy.*:sha-[0-9a-f]+$"), 0, "tag sha-"),
        (("skopeo", f"copy.*:{VERSION}$"), 1, f"tag {cloister.VERSION}"),
    ],
)
def test_after_a_step_that_fails_nothing_is_half_published_and_the_rerun_goes_on(
    clone: Clone, key: Path, tmp_path: Path, broken: tuple[str, str], tagged: int, first: str
) -> None:
    shim(clone, tmp_path / "shim", *broken, FAILS)
    said = clone.publish("--key", str(key), "--release", code=16)
    assert "the network is down" in said
    assert len(clone.tags()) == tagged
    for tag in clone.tags():
        clone.invoke(
            "images.verify",
            f"{clone.registry}/gateway:{tag}",
            "--key",
            str(key.with_suffix(".pub")),
        )
    told = clone.told("--key", str(key), "--release")
    assert told["done"][0].startswith(first)
    assert {clone.digest(tag) for tag in clone.tags()} == {told["digest"]}
    assert {"latest", cloister.VERSION} < set(clone.tags())


def test_a_registry_that_dies_while_it_is_sent_to(clone: Clone, key: Path, tmp_path: Path) -> None:
    uploaded = re.compile(r'"PUT /v2/\S+/blobs/uploads/\S+ HTTP/1.1" 201')
    port = free_ports(1)

    def arrived() -> None:
        assert uploaded.search(far.log.read_text())

    with Registry(tmp_path) as far:
        # The rest of the image takes a blink, in which nobody could kill it for certain.
        with way(far.address, port, ends=True) as address:
            clone.registry = f"{address}/org"
            words = ("images.publish", "--registry", clone.registry, "--image", "exporter")
            command = [sys.executable, "-m", "invoke", *words, "--key", str(key)]
            with subprocess.Popen(
                command, cwd=clone.root, env=clone.environment, stderr=subprocess.PIPE, text=True
            ) as publisher:
                try:
                    eventually(arrived, within_s=1800)
                finally:
                    far.kill()
                    said = publisher.communicate(timeout=400)[1]
        assert publisher.returncode == 16, said
        assert "did not take the image" in said
        assert "hint: run the same command again" in said
        sent = len(uploaded.findall(far.log.read_text()))
        assert sent
        assert "connection refused" in clone.publish("--key", str(key), code=16, image="exporter")
        far.start()
        with way(far.address, port):
            assert clone.tags("exporter") == []
            clone.publish("--key", str(key), image="exporter")
            (tag,) = clone.tags("exporter")
            name = f"{clone.registry}/exporter:{tag}"
            clone.invoke("images.verify", name, "--key", str(key.with_suffix(".pub")))
        # What had arrived was not sent again.
        digests = re.findall(
            r'"PUT /v2/\S+digest=sha256%3A(\w+) HTTP/1.1" 201', far.log.read_text()
        )
        assert len(digests) == len(set(digests)) > sent


def test_a_key_that_cannot_be_used_is_told_before_anything_is_done(
    clone: Clone, key: Path, tmp_path: Path
) -> None:
    right = clone.environment
    clone.environment = {**right, "COSIGN_PASSWORD": "wrong"}
    said = clone.publish("--key", str(key), code=16)
    assert "hint: COSIGN_PASSWORD has the password of the key" in said
    clone.environment = right
    broken = tmp_path / "broken.key"
    broken.write_text("no key")
    assert "cannot be used" in clone.publish("--key", str(broken), code=16)
    assert "there is no key" in clone.publish("--key", str(tmp_path / "none"), code=16)
    assert "nothing to sign with" in clone.publish(code=16)
    assert "contradict" in clone.publish("--unsigned", "--key", str(key), code=16)
    assert "building" not in said
    assert clone.tags() == []
    clone.publish("--key", str(key))
    assert len(clone.tags()) == 1


def test_an_image_that_fails_its_test_is_not_sent(clone: Clone, key: Path) -> None:
    dockerfile = clone.root / "images" / "gateway" / "Dockerfile"
    right = dockerfile.read_text()
    dockerfile.write_text(right.replace("USER 10001:10001", "USER 0:0"))
    assert "this checkout has changes" in clone.publish("--key", str(key), code=16)
    commit(clone.root)
    assert "has no tag v" in clone.publish("--key", str(key), "--release", code=16)
    said = clone.publish("--key", str(key), code=5)
    assert "gateway runs as `0:0`" in said
    assert "pushing" not in said
    host, _, path = clone.registry.partition("/")
    listed = requests.get(f"http://{host}/v2/{path}/gateway/tags/list", timeout=ASK_S)
    assert listed.status_code == 404

    dockerfile.write_text(right.replace('"/usr/sbin/nginx", "-p"', '"/usr/sbin/nginx", "-q"'))
    commit(clone.root)
    assert "does not start" in clone.publish("--key", str(key), code=5)
    assert clone.tags() == []
    dockerfile.write_text(right)
    commit(clone.root)
    clone.publish("--key", str(key))
    assert len(clone.tags()) == 1


def test_another_base_is_another_commit_and_one_that_is_gone_is_told(
    clone: Clone, key: Path, images: docker.DockerClient
) -> None:
    file = clone.root / "images" / lock.FILE_NAME
    ((base, first),) = lock.read(file).items()
    clone.publish("--key", str(key))
    (old,) = clone.tags()
    before = clone.digest(old)

    gone = f"sha256:{'0' * 64}"
    lock.write({base: first.model_copy(update={"digest": gone})}, file)
    commit(clone.root)
    assert gone in clone.publish("--key", str(key), code=5)
    assert clone.tags() == [old]

    container = images.containers.create(base, labels={"another": "day"})
    container.commit(f"{clone.registry}/debian", "trixie-slim")
    container.remove()
    images.images.push(f"{clone.registry}/debian:trixie-slim")
    second = digest_of(f"{clone.registry}/debian", "trixie-slim")
    moved = f"{clone.registry}/debian:trixie-slim"
    catalogue = clone.root / "images" / "images.yaml"
    catalogue.write_text(catalogue.read_text().replace(f"base: {base}\n", f"base: {moved}\n"))
    lock.write({moved: first.model_copy(update={"digest": second})}, file)
    commit(clone.root)
    clone.publish("--key", str(key))
    (new,) = set(clone.tags()) - {old}
    assert clone.digest(old) == before
    flags = ("--key", str(key.with_suffix(".pub")), "--json")
    for tag, digest in ((old, first.digest), (new, second)):
        words = ("images.verify", f"{clone.registry}/gateway:{tag}", *flags)
        assert json.loads(clone.invoke(*words).stdout)["base_digest"] == digest


def test_a_tag_that_somebody_takes_in_between_is_left_to_them(
    clone: Clone, key: Path, tmp_path: Path
) -> None:
    name = f"{clone.registry}/gateway"
    clone.publish("--key", str(key))
    (tag,) = clone.tags()
    whole = json.loads(manifest(name, tag).content)
    other = put(name, "other", json.dumps({**whole, "annotations": {"a": "b"}}).encode())
    plain = "--preserve-digests --src-tls-verify=false --dest-tls-verify=false"
    takes = f"skopeo copy -q {plain} docker://{name}:other docker://{name}:{cloister.VERSION}"
    shim(clone, tmp_path / "shim", "cosign", "^verify-attestation", takes)
    said = clone.publish("--key", str(key), "--release", code=16)
    assert f"the tag `{cloister.VERSION}` stays, and is there for {other}" in said
    assert set(clone.tags()) == {tag, "other", cloister.VERSION}
    delete(name, "other")
    clone.publish("--key", str(key), "--release")
    assert clone.digest("latest") == clone.digest(cloister.VERSION) == clone.digest(tag)


def test_a_release_that_broke_off_is_finished_where_the_build_has_other_bytes(
    clone: Clone, key: Path, images: docker.DockerClient
) -> None:
    clone.publish("--key", str(key))
    (tag,) = clone.tags()
    first = clone.digest(tag)
    shutil.rmtree(clone.root / ".cloister")
    clone.environment = {**clone.environment, "SOURCE_DATE_EPOCH": "1"}
    told = clone.told("--key", str(key), "--release")
    assert told["digest"] == first == clone.digest("latest")
    assert told["id"] != images.images.get(f"cloister/gateway:{TAG}").id

    # One that we did not sign is not taken.
    clone.environment = {**clone.environment, "SOURCE_DATE_EPOCH": "2"}
    said = clone.publish("--unsigned", "--release", code=16)
    assert f"the tag `{tag}` stays, and is there for {first}" in said
    assert "pushing" not in said


def test_what_was_built_on_a_stand_in_is_never_made_a_release(clone: Clone, key: Path) -> None:
    clone.publish("--key", str(key), "--local")
    (tag,) = clone.tags()
    for _ in range(2):
        said = clone.publish("--key", str(key), "--release", code=5)
        assert "gateway says `` for base.digest, not `sha256:" in said
    assert clone.tags() == [tag]


def test_without_a_signature_only_when_that_is_said(clone: Clone, tmp_path: Path) -> None:
    told = clone.told("--unsigned", "--out", str(tmp_path / "out"))
    assert told["signed"] is False
    assert "Nobody signed it" in (tmp_path / "out" / "gateway.md").read_text()
    said = clone.invoke(
        "images.verify", f"{told['repository']}@{told['digest']}", "--key", "none.pub", code=16
    ).stderr
    assert "is not signed by key none.pub" in said


def test_a_vulnerability_that_has_a_fix_keeps_an_image_back(
    clone: Clone, key: Path, tmp_path: Path
) -> None:
    """The scanner is a stand-in: neither grype nor its database can be had here."""
    known = {"id": "CVE-2026-1", "severity": "High", "fix": {"versions": ["9"]}}
    found = {"matches": [{"vulnerability": known, "artifact": {"name": "zlib", "version": "1"}}]}
    shim(clone, tmp_path / "shim", "true", ".", "")
    scanner = tmp_path / "shim" / "grype"
    scanner.write_text(f"#!/bin/sh\ntest -s \"${{3#sbom:}}\" && echo '{json.dumps(found)}'\n")
    scanner.chmod(0o755)
    said = clone.publish("--key", str(key), code=16)
    assert "CVE-2026-1 in zlib 1, mended in 9" in said
    assert clone.tags() == []
    out = tmp_path / "out"
    clone.publish("--key", str(key), "--fail-on", "critical", "--out", str(out))
    assert "grype found 1, none of severity critical" in (out / "gateway.md").read_text()
