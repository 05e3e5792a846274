"""Facts, tags, annotations and manifests of images, without an engine."""

import io
import re
import tarfile
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import pytest
import requests
from docker.errors import APIError, ImageNotFound
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cloister import images
from cloister.errors import ImageError
from cloister.images.catalogue import LABEL, MODEL_LABEL, REVISION_LABEL, Fact
from cloister.images.packages import Package, Records, named

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "89abcdef0123456789abcdef0123456789abcdef"
GATEWAY, VLLM = images.catalogue()["gateway"], images.catalogue()["vllm-cuda"]
NGINX = {"nginx": "1.26.3"}
VERSIONS = {"vllm": "0.32.0", "cuda": "13.0", "torch": "2.13.0"}


def tags(version: str = "1.4.0", *, released: bool = True, **facts: str) -> images.Tags:
    return images.tags(GATEWAY, facts or NGINX, version, COMMIT, released=released)


def test_a_release_has_fixed_tags_and_moves_the_others() -> None:
    fixed, moving = tags()
    assert fixed == ("sha-0123456789ab", "1.4.0")
    assert moving == ("latest", "1.4", "1", "nginx-1.26.3")
    assert tags("0.1.0").moving == ("latest", "0.1", "nginx-1.26.3")


def test_a_commit_has_its_own_tag_and_moves_nothing() -> None:
    assert tags(released=False) == (("sha-0123456789ab",), ())
    assert tags("1.5.0.dev1", released=False) == (("sha-0123456789ab",), ())


def test_a_release_before_the_release_moves_nothing() -> None:
    assert tags("1.5.0rc1") == (("sha-0123456789ab", "1.5.0rc1"), ())


def test_an_image_with_a_model_never_takes_the_place_of_the_one_without() -> None:
    plain = images.tags(VLLM, VERSIONS, "1.4.0", COMMIT, released=True)
    baked = images.tags(VLLM, {**VERSIONS, "model": MODEL}, "1.4.0", COMMIT, released=True)
    assert baked.fixed == ("sha-0123456789ab-model-89abcdef", "1.4.0-model-89abcdef")
    assert baked.moving == (
        *("1.4.0-model", "latest-model", "1.4-model", "1-model"),
        *("vllm-0.32.0-model", "cuda-13.0-model", "torch-2.13.0-model", "model-89abcdef"),
    )
    assert not set(plain.fixed + plain.moving) & set(baked.fixed + baked.moving)
    carried = {**VERSIONS, "model": MODEL}
    commit = images.tags(VLLM, carried, "1.4.0", COMMIT, released=False)
    assert commit == (("sha-0123456789ab-model-89abcdef",), ())
    early = images.tags(VLLM, carried, "1.5.0rc1", COMMIT, released=True)
    assert early.fixed[1] == "1.5.0rc1-model-89abcdef"
    assert early.moving == ("1.5.0rc1-model",)


@pytest.mark.parametrize(
    "version", ["", "1", "1.4", "1.4.0.1", "v1.4.0", "1.4.0+local", "1.4.0.dev1", "1.4.0-rc1", "x"]
)
def test_a_version_that_is_no_release_is_refused(version: str) -> None:
    with pytest.raises(ImageError, match=re.escape(f"`{version}` is not the version of a release")):
        tags(version)


@pytest.mark.parametrize(
    ("facts", "revision", "words"),
    [
        (NGINX, "unknown", "built of `unknown`, which is no commit"),
        (NGINX, COMMIT[:12], "which is no commit"),
        ({}, COMMIT, "gateway lacks the facts nginx"),
        ({"nginx": "1.26.3+deb13"}, COMMIT, "`nginx-1.26.3+deb13` of gateway cannot be a tag"),
        ({"nginx": "1" * 123}, COMMIT, "cannot be a tag"),
        ({"nginx": "1.26\n"}, COMMIT, "cannot be a tag"),
        ({"nginx": "\u0661"}, COMMIT, "cannot be a tag"),
    ],
)
def test_what_cannot_be_a_tag_is_refused(
    facts: Mapping[str, str], revision: str, words: str
) -> None:
    with pytest.raises(ImageError, match=re.escape(words)):
        images.tags(GATEWAY, facts, "1.4.0", revision, released=True)


@given(st.tuples(*[st.integers(0, 10**6)] * 3), st.text(max_size=130), st.booleans())
def test_tags_are_valid_and_each_is_there_once(
    numbers: tuple[int, int, int],
    value: str,
    released: bool,  # noqa: FBT001
) -> None:
    version = ".".join(map(str, numbers))
    try:
        found = images.tags(GATEWAY, {"nginx": value}, version, COMMIT, released=released)
    except ImageError:
        assert not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", value)
        return
    every = found.fixed + found.moving
    assert len(set(every)) == len(every)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag) for tag in every)


def test_annotations_are_our_labels_and_not_those_of_a_base() -> None:
    labels = {
        f"{LABEL}title": "cloister gateway",
        f"{LABEL}base.digest": "",
        f"{LABEL}ref.name": "ubuntu",
        "maintainer": "somebody",
        MODEL_LABEL: "nanonets/Nanonets-OCR2-3B",
        REVISION_LABEL: MODEL,
    }
    assert images.annotations(labels) == {
        f"{LABEL}title": "cloister gateway",
        MODEL_LABEL: "nanonets/Nanonets-OCR2-3B",
        REVISION_LABEL: MODEL,
    }


# Facts


@pytest.mark.parametrize("pattern", ["nginx", "(a)(b)", "("])
def test_a_fact_has_a_pattern_with_one_group(pattern: str) -> None:
    with pytest.raises(ValidationError):
        Fact.model_validate({"name": "nginx", "run": ["nginx"], "pattern": pattern})


def test_every_image_has_facts() -> None:
    for image in images.catalogue().values():
        assert image.facts, image.name
        assert len({fact.name for fact in image.facts}) == len(image.facts)
        assert "model" not in {fact.name for fact in image.facts}


def engine(code: int = 0, printed: bytes = b"", labels: object = None) -> mock.Mock:
    client = mock.Mock()
    client.images.get.return_value.attrs = {"Config": {"Labels": labels}}
    container = client.containers.create.return_value
    container.wait.return_value = {"StatusCode": code}
    container.logs.return_value = printed
    return client


def facts_of(client: mock.Mock) -> Mapping[str, str]:
    return images.facts(client, GATEWAY, "cloister/gateway:1")


def test_facts_are_asked_in_a_sealed_container_that_is_gone_afterwards() -> None:
    client = engine(printed=b"nginx version: nginx/1.26.3\n", labels={REVISION_LABEL: MODEL})
    assert facts_of(client) == {"nginx": "1.26.3", "model": MODEL}
    (reference,), how = client.containers.create.call_args
    assert reference == "cloister/gateway:1"
    assert (how["entrypoint"], how["command"]) == (["/usr/sbin/nginx"], ["-v"])
    assert (how["network_mode"], how["read_only"], how["cap_drop"]) == ("none", True, ["ALL"])
    client.containers.create.return_value.remove.assert_called_once_with(force=True)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (engine(printed=b""), "does not tell its nginx: `/usr/sbin/nginx` ended with code 0"),
        (engine(1, b"nginx/1.26.3"), "ended with code 1 and printed nginx/1.26.3"),
        (engine(0, b"a\nb\xff"), "printed a b\ufffd"),
    ],
)
def test_a_program_that_tells_something_else_is_an_error(client: mock.Mock, words: str) -> None:
    with pytest.raises(ImageError, match=re.escape(words)) as said:
        facts_of(client)
    assert len(str(said.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (APIError("x", explanation="no such\nfile"), "cannot run `/usr/sbin/nginx`: no such file"),
        (requests.ReadTimeout(), "did not end within 60 s"),
        (requests.ConnectionError(), "did not end within 60 s"),
    ],
)
def test_a_program_that_does_not_end_is_removed(error: Exception, words: str) -> None:
    client = engine()
    client.containers.create.return_value.wait.side_effect = error
    with pytest.raises(ImageError, match=re.escape(words)):
        facts_of(client)
    client.containers.create.return_value.remove.assert_called_once_with(force=True)


def test_an_image_that_was_not_built_has_no_facts() -> None:
    client = engine()
    client.images.get.side_effect = ImageNotFound("x")
    with pytest.raises(ImageError, match="was not built"):
        facts_of(client)


# Packages


def layer(**files: str) -> tarfile.TarFile:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    written.seek(0)
    return tarfile.open(fileobj=written, mode="r|")


STATUS = (
    "Package: libc6\nStatus: install ok installed\nVersion: 2.41-12\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
    "Package: half\n"
)


def test_packages_are_those_of_the_records() -> None:
    found = named(
        {
            "var/lib/dpkg/status": STATUS,
            "var/lib/dpkg/status.d/nginx": "Package: nginx\nVersion: 1.26.3-3\n",
            "opt/a-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: a\nVersion: 1\n\nName: b\n",
        }
    )
    assert found == (
        Package("deb", "libc6", "2.41-12"),
        Package("deb", "nginx", "1.26.3-3"),
        Package("pypi", "a", "1"),
    )


def test_a_layer_replaces_and_removes_what_is_below() -> None:
    records = Records()
    metadata = "Name: {}\nVersion: 1\n"
    below = {
        "var/lib/dpkg/status": "Package: old\nVersion: 1\n",
        "./opt/a/a-1.dist-info/METADATA": metadata.format("a"),
        "opt/b/b-1.dist-info/METADATA": metadata.format("b"),
        "opt/c/c-1.dist-info/METADATA": metadata.format("c"),
        "opt/c/c-1.dist-info/RECORD": "",
    }
    records.add(layer(**below))
    above = {
        "var/lib/dpkg/status": STATUS,
        "opt/.wh.a": "",
        "opt/b/b-2.dist-info/METADATA": metadata.format("b2"),
        "opt/b/.wh..wh..opq": "",
        "opt/c/c-1.dist-info/.wh.RECORD": "",
    }
    records.add(layer(**above))
    assert [package.name for package in records.packages()] == ["libc6", "b2", "c"]


# Manifests


FOUND = images.Facts(
    reference="cloister/vllm-cuda:1.4.0-model",
    id=f"sha256:{'1' * 64}",
    size_bytes=9_876_543_210,
    user="10001:10001",
    files=30_309,
    setuid=(),
    shells=("/usr/bin/bash",),
    package_managers=(),
    health_check="python3 -m cloister.inside.health --stall-s=120",
    ports=("8000/tcp",),
    labels={
        f"{LABEL}version": "1.4.0",
        f"{LABEL}revision": COMMIT,
        f"{LABEL}base.name": "vllm/vllm-openai:v0.32.0",
        f"{LABEL}base.digest": f"sha256:{'2' * 64}",
        MODEL_LABEL: "nanonets/Nanonets-OCR2-3B",
        REVISION_LABEL: MODEL,
    },
    layers=(f"sha256:{'3' * 64}", f"sha256:{'4' * 64}"),
    packages=(Package("deb", "libc6", "2.41-12"), Package("pypi", "a|b", "1\n2")),
)


def manifest(found: images.Facts = FOUND, **published: Any) -> str:
    facts = {**VERSIONS, "model": MODEL}
    given = images.tags(VLLM, facts, "1.4.0", COMMIT, released=True)
    where = images.Published("registry.example/cloister/vllm-cuda", given, **published)
    return images.manifest.render(VLLM, found, facts, where)


def test_the_manifest(golden: Callable[[str, str], None]) -> None:
    golden("manifest.md", manifest(digest=f"sha256:{'5' * 64}"))


def test_the_manifest_of_what_was_not_pushed_says_so() -> None:
    text = manifest()
    assert "| digest | none: it was not pushed |" in text
    assert f"It was not pushed. On the machine that built it, it is `sha256:{'1' * 64}`" in text
    assert "cosign" not in text


def test_the_manifest_has_the_commands_that_check_it() -> None:
    text = manifest(digest="sha256:5", verify=("openssl dgst --verify x",))
    assert "$ openssl dgst --verify x\n$ docker pull registry.example/cloister/vllm" in text
    assert "cosign" not in text
