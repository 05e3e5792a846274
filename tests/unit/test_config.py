"""The configuration: sources, origins, and errors that say what to type."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloister import config, datafiles, userfile
from cloister.config import Settings
from cloister.datafiles import DataError
from cloister.errors import ConfigError

ROOT = Path(__file__).parents[2]


def load(
    *flags: str, text: str | None = None, folder: Path | None = None, **environ: str
) -> config.Loaded:
    path = None
    if folder is not None:
        path = folder / "cloister.yaml"
        path.write_text(text or "", encoding="utf-8")
    else:
        environ = {"CLOISTER_CONFIG": "/dev/null", **environ}
    return config.load(flags=flags, environ=environ, config_file=path)


def origins(loaded: config.Loaded) -> dict[str, tuple[object, str]]:
    return {item.key: (item.value, item.origin) for item in loaded.origins}


def error(*flags: str, **sources: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*flags, **sources)
    return str(raised.value)


def test_the_defaults_are_those_of_the_seed_architecture() -> None:
    defaults = load().settings
    assert defaults.model.name == "nanonets/Nanonets-OCR2-3B"
    assert (defaults.gateway.port, str(defaults.gateway.address)) == (8001, "127.0.0.1")
    assert (defaults.gateway.max_body_mib, defaults.gateway.timeout_s) == (50, 300)
    assert defaults.state_dir == ROOT / ".cloister"


def test_flags_beat_variables_beat_the_file_beats_defaults(tmp_path: Path) -> None:
    text = "gateway:\n  port: 1001\n  timeout_s: 11\n  max_body_mib: 7\n"
    found = origins(
        load(
            "gateway.port=1003",
            text=text,
            folder=tmp_path,
            CLOISTER_GATEWAY_PORT="1002",
            CLOISTER_GATEWAY_TIMEOUT_S="12",
        )
    )
    assert found["gateway.port"] == (1003, "--set")
    assert found["gateway.timeout_s"] == (12, "CLOISTER_GATEWAY_TIMEOUT_S")
    value, origin = found["gateway.max_body_mib"]
    assert value == 7
    assert origin.endswith("cloister.yaml line 4")
    assert found["replicas"] == (1, "default")


def test_text_is_read_by_the_type_of_its_key() -> None:
    found = load(
        "tesseract.workers=3",
        "insecure=true",
        "gateway.metrics_allow=10.0.0.0/8,192.0.2.1/32",
        "gateway.address=::1",
    ).settings
    assert found.tesseract.workers == 3
    assert found.insecure is True
    assert [str(network) for network in found.gateway.metrics_allow] == [
        "10.0.0.0/8",
        "192.0.2.1/32",
    ]
    assert load("tesseract.workers=null").settings.tesseract.workers is None
    assert load('gateway.metrics_allow=["10.0.0.0/8"]').settings.gateway.metrics_allow


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("gateway.prot=1", ["`gateway.prot` in --set is not a known key", "`gateway.port`"]),
        ("replica=1", ["not a known key", "`replicas`"]),
        ("gateway.port=abc", ["`gateway.port`", "from 1 to 65535", "`abc`"]),
        ("gateway.port=70000", ["`gateway.port`", "from 1 to 65535", "70000"]),
        ("replicas=2.5", ["`replicas`", "whole number", "2.5"]),
        ("replicas=0", ["`replicas`", "from 1 to 64"]),
        ("engine=vlm", ["`engine`", "`auto` or `tesseract`", "vlm"]),
        ("gateway.address=nowhere", ["`gateway.address`", "nowhere"]),
        ("gateway.address=0.0.0.0", ["0.0.0.0", "API keys", "insecure: true"]),  # noqa: S104
        ("model.name=a b", ["`model.name`"]),
        ("tesseract.languages=eng;rm", ["`tesseract.languages`"]),
        ("state_dir=/tmp/a\nb", ["`state_dir`"]),
        ("state_dir=/" + "a" * 100, ["`state_dir`", "80"]),
        ("gateway=1", ["`gateway` in --set is a section", "`gateway.port`"]),
        ("replicas", ["`replicas` in --set has no value", "`--set replicas=VALUE`"]),
    ],
)
def test_a_wrong_flag_says_found_expected_and_what_to_type(flag: str, words: list[str]) -> None:
    said = error(flag)
    assert all(word.lower() in said.lower() for word in words), said
    assert len(said.splitlines()) <= 2


KEYS = "gateway.keys=true"
CERTIFICATE = ("gateway.certificate=/a.crt", "gateway.certificate_key=/a.key")
CLIENTS = "gateway.client_ca=/ca.crt"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])  # noqa: S104  # what is tested
def test_other_machines_are_let_in_with_keys_and_a_certificate_or_by_the_users_word(
    address: str,
) -> None:
    wide = f"gateway.address={address}"
    for half in ((), (KEYS,), CERTIFICATE):
        assert "without API keys and a certificate" in error(wide, *half)
    for enough in ((KEYS, *CERTIFICATE), ("insecure=true",)):
        assert str(load(wide, *enough).settings.gateway.address) == address


@pytest.mark.parametrize(
    ("flags", "words", "mended"),
    [
        (CERTIFICATE[:1], "`gateway.certificate_key` by default is missing", CERTIFICATE[1]),
        ((CLIENTS,), "`gateway.client_ca` in --set needs `gateway.certificate`", None),
        (
            (*CERTIFICATE, CLIENTS),
            "`gateway.client_certificate` for `invoke` itself",
            "gateway.client_certificate=/client.pem",
        ),
        (("engines.weights=1,2",), "has 2 numbers for 1 replicas", "replicas=2"),
        (
            ("autoscale.min=3", "autoscale.max=2"),
            "`autoscale.min` in --set is 3",
            "autoscale.max=3",
        ),
        (("vllm.load_format=dummy",), "no page could be read", "model.synthetic=true"),
    ],
)
def test_what_does_not_hold_between_keys_is_refused_with_what_mends_it(
    flags: tuple[str, ...], words: str, mended: str | None
) -> None:
    assert words in error(*flags)
    if mended is not None:
        load(*flags, mended)


def test_an_unknown_variable_is_an_error_with_the_nearest_one() -> None:
    said = error(CLOISTER_GATEWAI_PORT="1")
    assert said == (
        "`CLOISTER_GATEWAI_PORT` in the environment is not a variable of Cloister\n"
        "hint: did you mean `CLOISTER_GATEWAY_PORT`?"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gateway:\n  prot: 1\n", "`gateway.prot` in .*cloister.yaml line 2 is not a known key"),
        ("replicas: 1\nreplicas: 2\n", "line 2 is set twice, first in line 1"),
        ("replicas: [\n", "line 2 is not YAML"),
        ("- a\n", "mapping|keys"),
        ("gateway: 5\n", "`gateway`"),
        ('replicas: "\\UFFFFFFFF"\n', "found invalid Unicode character escape"),
        ("replicas: two\n", "`replicas` in .* line 1 must be a whole number"),
        ("replicas: true\n", "`replicas`"),
        ("? [a]\n: 1\n", "cloister.yaml"),
        ("!!python/object/apply:os.system ['true']\n", "cloister.yaml"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    assert re.search(words, error(text=text, folder=tmp_path))


def test_several_errors_are_counted() -> None:
    assert "1 more" in error("replicas=0", "gateway.port=0")


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    assert "does not exist" in error(CLOISTER_CONFIG="/nonexistent/cloister.yaml")
    with pytest.raises(ConfigError):
        config.load(environ={}, config_file=tmp_path)
    (tmp_path / "latin1").write_bytes(b"replicas: \xe9\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(environ={}, config_file=tmp_path / "latin1")


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash, in which `show` loads the configuration twice and prints both."""
    program = (
        "from cloister import config; "
        "print(*(config.load().settings.replicas for _ in range(2)), flush=True)"
    )
    return subprocess.run(
        ["bash", "-c", f"show() {{ '{sys.executable}' -c '{program}'; }}; {script}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(
    "script",
    [
        "CLOISTER_CONFIG=<(echo replicas: 7) show",
        "echo replicas: 7 | CLOISTER_CONFIG=/dev/stdin show",
        "CLOISTER_CONFIG=/dev/stdin show <<<'replicas: 7'",
        "mkfifo named; CLOISTER_CONFIG=named show & echo replicas: 7 >named; wait",
    ],
)
def test_a_pipe_that_the_user_named_is_read(tmp_path: Path, script: str) -> None:
    done = shell(f"cd '{tmp_path}'; {script}")
    assert done.stdout == "7 7\n", done.stderr


def test_a_pipe_that_is_too_large_or_does_not_end_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datafiles, "PIPE_S", 0.2)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with path.open("r+b", buffering=0) as writer:
        writer.write(b"replicas: 7\n")
        assert "did not end within 0.2 s" in error(CLOISTER_CONFIG=str(path))
    assert "nothing came" in error(CLOISTER_CONFIG=str(path))
    done = shell("CLOISTER_CONFIG=<(exec yes) show")
    assert "it is larger than 4,194,304 bytes" in done.stderr


def test_a_pipe_that_nobody_named_is_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "profile.yaml")
    with pytest.raises(DataError, match="not a regular file"):
        datafiles.load_yaml(tmp_path / "profile.yaml")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(text="", folder=tmp_path).settings == load().settings


def test_the_written_file_is_the_golden_one(golden: Callable[[str, str], None]) -> None:
    golden("cloister.yaml", config.default_yaml())


def test_the_written_file_means_the_defaults_commented_or_not(tmp_path: Path) -> None:
    text = config.default_yaml()
    assert load(text=text, folder=tmp_path).settings == load().settings
    # The sign before an explanation has one space after it; that before a key has none, and that
    # before the further lines of a value has two.
    uncommented = re.sub(r"^(\s*)#(?=\S|  )", r"\1", text, flags=re.MULTILINE)
    loaded = load(text=uncommented, folder=tmp_path)
    assert loaded.settings == config.Settings()  # not the model's profile, which it lies over
    assert all("cloister.yaml" in item.origin for item in loaded.origins)


def test_the_documented_table_is_the_schemas() -> None:
    documented = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert config.markdown_table() in documented


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().settings.replicas = 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
keys = st.sampled_from(["replicas", "gateway", "ocr", "engine", "state_dir"]) | st.text(max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(keys, json_values, max_size=4))
def test_any_file_is_settings_or_a_config_error(tmp_path: Path, content: dict[str, Any]) -> None:
    try:
        loaded = load(text=yaml.safe_dump(content, allow_unicode=True), folder=tmp_path)
    except ConfigError as refused:
        assert len(str(refused).splitlines()) <= 2  # noqa: PT017  # both ways out are right
    else:
        assert isinstance(loaded.settings, Settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "replicas: 3\n"),
        ("#replicas: 1\n", "#replicas: 1\nreplicas: 3\n"),
        ("#replicas: 1\nreplicas: 2  # two\n", "#replicas: 1\nreplicas: 3  # two\n"),
        ("gateway:\n  port: 1\n", "replicas: 3\ngateway:\n  port: 1\n"),
        ("gateway:\n  replicas: 1\n", "replicas: 3\ngateway:\n  replicas: 1\n"),
    ],
)
def test_a_key_at_the_top_is_set_where_it_stands(text: str, expected: str) -> None:
    assert config.with_keys(text, "", {"replicas": 3}) == expected


def test_what_is_no_file_is_not_replaced_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOISTER_CONFIG", "/dev/null")
    with pytest.raises(ConfigError, match="no file that can be changed"):
        userfile.set_keys("", {"replicas": 3})
    assert Path("/dev/null").is_char_device()


def test_settings_are_changed_as_a_whole_or_not_at_all() -> None:
    settings = config.load(environ={"CLOISTER_CONFIG": "/dev/null"}).settings
    changed = config.changed(settings, ["replicas=3", "engines.gpus=[0,1]"])
    assert (changed.replicas, changed.engines.gpus) == (3, (0, 1))
    assert config.changed(changed, ["replicas=1", "engines.gpus=[]"]) == settings
    with pytest.raises(ConfigError, match="from 1 to 64"):
        config.changed(settings, ["replicas=0"])
    with pytest.raises(ConfigError, match=r"has 1 numbers for 2 replicas"):
        config.changed(settings, ["replicas=2", "engines.weights=[1]"])


def test_only_flags_for_speed_reach_vllm() -> None:
    assert load("vllm.flags=--stream-interval=10,--no-enable-prefix-caching").settings.vllm.flags
    for flag in ("--trust-remote-code", "--allowed-local-media-path=/", "-O3", "--port=1", "x"):
        with pytest.raises(ConfigError, match="flags for speed"):
            load(f"vllm.flags={flag}")
