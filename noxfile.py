"""Sessions for checks and benchmarks; `nox` alone runs what `.ci/run` runs."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

# As scripts/prerequisites.sh, for uv, pip and npm in every session: the authority of a proxy that
# inspects TLS is in the system's store, and a network may be away for minutes.
_NETWORK = {"UV_SYSTEM_CERTS": "1", "NODE_USE_SYSTEM_CA": "1", "UV_HTTP_RETRIES": "20"}
os.environ.update({**_NETWORK, "PIP_RETRIES": "12", **os.environ})

PYTHON = ["noxfile.py", "tasks", "cloister", "loadtests", "suites", "tests", "benchmarks"]
SHELL = [
    *("scripts/prerequisites.sh", "scripts/setup-nanonets.sh", "scripts/test.sh"),
    *("scripts/local-bases.sh", "scripts/bundle.sh", "images/gateway/collect.sh", ".ci/run"),
    *("scripts/registry-login.sh", "scripts/publish-tools.sh"),
]


@contextmanager
def complete(session: nox.Session, folder: Path, *files: str) -> Iterator[None]:
    """Replace an environment unless an earlier run completed the installation of `files`."""
    # Ctrl-C leaves an environment without Python, or half a package; nox and uv would reuse both.
    stamp, expected = folder / "requirements.txt", b"".join(Path(f).read_bytes() for f in files)
    is_complete = stamp.is_file() and stamp.read_bytes() == expected
    # `nox -R` installs nothing: then run_install does nothing and returns None.
    is_new = not is_complete and session.run_install("rm", "-rf", str(folder), external=True)
    if is_new:
        session.run_install("uv", "venv", "--quiet", f"--python={sys.executable}", str(folder))
    yield
    if is_new:
        stamp.write_bytes(expected)


def install(session: nox.Session, name: str) -> None:
    """Install one of the pinned requirement files, hashes checked."""
    file = f"requirements/{name}.txt"
    with complete(session, session.env_dir, file):
        install_packages(session, session.env_dir, file)


def install_packages(session: nox.Session, folder: Path, file: str) -> None:
    """Install pinned packages into an environment: from uv's cache, or else from the network."""
    uv = ("uv", "pip", "install", "--quiet", "--require-hashes", f"--python={folder}", "-r", file)
    # The cache has all of them or it does nothing; after it the second one has nothing to do.
    # `uv pip sync` would ask the network even then.
    session.run_install(*uv, "--offline", success_codes=[0, 1, 2], silent=True)
    session.run_install(*uv)


# How many tests of a suite run at once. They wait more than they work, but for the unit tests.
WORKERS = {"unit": 2, "stack": 3, "docker": 4, "clients": 2}


# Flags of pytest whose next argument may look like a path at or below tests/, and selects nothing.
VALUED = ("-k", "-m", "-c", "--deselect", "--ignore", "--ignore-glob", "--rootdir", "--confcutdir")


def find_paths(arguments: Sequence[str]) -> list[Path]:
    """Return the paths at or below tests/ among pytest's arguments."""
    pairs = zip(("", *arguments), arguments, strict=False)
    words = (argument for before, argument in pairs if before not in VALUED)
    paths = (Path(word.partition("::")[0]).resolve() for word in words)
    return [path for path in paths if path.is_relative_to(Path("tests").resolve())]


def pytest(session: nox.Session, suite: str, **environment: str) -> None:
    """Run a suite, with the flags of the command line, or the tests that it has in its place.

    Only a whole suite is shared out among workers: a few tests are quicker to start in one process.
    """
    # Where the caller has set them, the first has every command under test compile all that it
    # imports, and the others change which tests run, and how often.
    unset = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "TEST_REPETITIONS")
    env: dict[str, str | None] = dict.fromkeys(unset)
    # What the tests start listens on this machine, whatever the proxy.
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1,localhost")))
    env |= {"NO_PROXY": direct, "no_proxy": direct, **environment}
    shared = (
        *(f"--numprocesses={WORKERS[suite]}", "--dist=loadfile", "--no-loadscope-reorder"),
        "--max-worker-restart=2",  # a test that kills its worker is tried again in another
    )
    arguments = session.posargs or shared
    folder = () if find_paths(session.posargs) else (f"tests/{suite}",)
    # The plugin reports to scripts/test.sh what passed; without it there is nobody to report to.
    command = ("python", "-m", "pytest", "-p", "suites.progress", *folder, *arguments)
    # After Ctrl-C the tests take down what they started.
    session.run(*command, env=env, interrupt_timeout=50, terminate_timeout=5)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling and shell scripts."""
    install(session, "lint")
    session.run("ruff", "check", *PYTHON)
    session.run("ruff", "format", "--check", *PYTHON)
    session.run("codespell", "--toml", "pyproject.toml")
    session.run("shellcheck", "-x", *SHELL)
    session.run("hadolint", *map(str, sorted(Path("images").glob("*/Dockerfile"))))
    # try_files names nothing on disk here: it only puts one step of nginx behind another.
    rendered = sorted(map(str, Path("compose/gateway").glob("*/nginx.conf")))
    rendered.append("tests/unit/golden/nginx-3.conf")
    session.run("gixy", "--skips=try_files_is_evil_too", *rendered)
    for engines in (("tesseract",), ("vllm-cuda",), ("vllm-cpu",), ("vllm-cuda", "vllm-baked")):
        files = (f"--file=compose/{name}.yaml" for name in ("compose", *engines))
        model = {"CLOISTER_MODEL_FOLDER": "/model"}
        session.run("docker-compose", *files, "config", "--quiet", env=model)


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session, "lint")
    # A benchmark may use what tests use.
    programs = (name for name in PYTHON if name != "tests")
    session.run("mypy", *programs, "tests/conftest.py", env={"MYPYPATH": "tests"})
    for suite in ("unit", "stack", "docker", "clients"):
        session.run("mypy", f"tests/{suite}", env={"MYPYPATH": f"tests:tests/{suite}"})


@nox.session
def workflows(session: nox.Session) -> None:
    """Check the workflows of GitHub: their schema, and what would let somebody else in."""
    install(session, "lint")
    files = [str(path) for path in sorted(Path(".github/workflows").glob("*.yaml"))]
    session.run("check-jsonschema", "--builtin-schema=vendor.github-workflows", *files)
    session.run("zizmor", "--offline", "--persona=pedantic", "--strict-collection", *files)


@nox.session
def unit(session: nox.Session) -> None:
    """Test what needs neither network nor processes."""
    install(session, "test")
    pytest(session, "unit")


@nox.session
def stack(session: nox.Session) -> None:
    """Test real nginx and real engines as processes; needs nginx."""
    install(session, "test")
    pytest(session, "stack")


@nox.session
def docker(session: nox.Session) -> None:
    """Test real containers, the seal among them; skipped, but in CI, where there is no Docker."""
    install(session, "test")
    pytest(session, "docker")


@nox.session
def clients(session: nox.Session) -> None:
    """Test the programs of docs/clients.md against a real stack; needs curl and poppler."""
    install(session, "test")
    pytest(session, "clients", CLIENTS_ENVIRONMENT=client_programs(session))


def client_programs(session: nox.Session) -> str:
    """Install the programs of docs/clients.md; return their environment's folder."""
    # Their own environment: they want other versions than we do. Node comes with it.
    theirs = session.env_dir.resolve() / "clients"
    lock = "tests/clients/package-lock.json"
    with complete(session, theirs, "requirements/clients.txt", lock):
        install_packages(session, theirs, "requirements/clients.txt")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(f"tests/clients/{name}", theirs)
        npm = (f"{theirs}/bin/npm", "ci", f"--prefix={theirs}", "--ignore-scripts")
        flags = ("--prefer-offline", "--loglevel=error", "--no-audit", "--no-fund")
        session.run_install(*npm, *flags, external=True)
    return str(theirs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Repeat as often as tests/repetitions.py says for releases: unit, stack, docker, clients."""
    install(session, "test")
    environment = {"TEST_REPETITIONS": "soak"}
    if paths := find_paths(session.posargs):
        clients = Path("tests/clients").resolve()
        if any(path.is_relative_to(clients) or path in clients.parents for path in paths):
            environment["CLIENTS_ENVIRONMENT"] = client_programs(session)
        pytest(session, "unit", **environment)  # what the command line has in its place
        return
    if session.posargs:
        flags = shlex.join(session.posargs)
        session.error(
            f"no path below tests/ in: {flags}; type .venv/bin/nox -s soak -- tests/unit {flags}"
        )
    environment["CLIENTS_ENVIRONMENT"] = client_programs(session)
    for suite in WORKERS:
        pytest(session, suite, **environment)


@nox.session(default=False)
def loadtest(session: nox.Session) -> None:
    """Send pages through the gateway: how many a second, how soon, how well, and what limits it."""
    install(session, "loadtest")
    session.run("python", "-m", "loadtests", *session.posargs)


@nox.session(default=False)
def tune(session: nox.Session) -> None:
    """Find the settings that serve the most pages on this machine's card, and keep them."""
    install(session, "loadtest")
    session.run("python", "-m", "loadtests.tune", *session.posargs)


def bench(session: nox.Session, name: str, requirements: str) -> None:
    """Run a benchmark, which may use what tests use."""
    install(session, requirements)
    program = ("python", "-m", f"benchmarks.{name}")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-engine", default=False)
def bench_engine(session: nox.Session) -> None:
    """Compare the gateway with the same Tesseract in a bare process pool, in one run."""
    bench(session, "engine", "runtime")


@nox.session(name="bench-containers", default=False)
def bench_containers(session: nox.Session) -> None:
    """Compare sealed containers with containers on a network and processes, in one run."""
    bench(session, "containers", "runtime")


@nox.session(name="bench-download", default=False)
def bench_download(session: nox.Session) -> None:
    """Compare our download, hashes and all, with `hf download` from the same hub, in one run."""
    bench(session, "download", "runtime")


@nox.session(name="bench-gateway", default=False)
def bench_gateway(session: nox.Session) -> None:
    """Compare the gateway, by sockets and TCP, with none and with HAProxy; needs HAProxy."""
    bench(session, "gateway", "runtime")


@nox.session(name="bench-json", default=False)
def bench_json(session: nox.Session) -> None:
    """Compare an engine with and without the bounds of JSON, in one run."""
    bench(session, "json_bounds", "runtime")


@nox.session(name="bench-key-timing", default=False)
def bench_key_timing(session: nox.Session) -> None:
    """Compare how long wrong keys take, by how much of them is right; needs a quiet machine."""
    bench(session, "key_timing", "runtime")


@nox.session(name="bench-client", default=False)
def bench_client(session: nox.Session) -> None:
    """Compare what the load test's client measures with a stub's known times, and its cost."""
    bench(session, "client_truth", "loadtest")


@nox.session(name="bench-tools", default=False)
def bench_tools(session: nox.Session) -> None:
    """Compare the load test with AIPerf and `vllm bench serve`, which are your own, in one run."""
    bench(session, "tools", "test")


@nox.session(name="bench-faults", default=False)
def bench_faults(session: nox.Session) -> None:
    """Break replicas and programs under load, twenty times each: found and well again how soon."""
    bench(session, "faults", "runtime")


@nox.session(name="bench-saturation", default=False)
def bench_saturation(session: nox.Session) -> None:
    """Keep a fleet's queue full for half an hour: the watchdog must do nothing."""
    bench(session, "saturation", "runtime")


@nox.session(name="bench-autoscale", default=False)
def bench_autoscale(session: nox.Session) -> None:
    """Try the autoscaling policy on simulated loads, against fleets of a fixed size."""
    bench(session, "autoscale", "runtime")


@nox.session(name="bench-batch", default=False)
def bench_batch(session: nox.Session) -> None:
    """Compare `invoke ocr` with the load test on the same engine, alternating in one run."""
    bench(session, "batch", "loadtest")


@nox.session(name="bench-rendering", default=False)
def bench_rendering(session: nox.Session) -> None:
    """Compare the renderers' pages a second with those of another checkout, in one run."""
    bench(session, "rendering", "runtime")


@nox.session(name="bench-survival", default=False)
def bench_survival(session: nox.Session) -> None:
    """Kill `invoke ocr` thirty times on 2,000 pages: no page is lost, none asked for in vain."""
    bench(session, "survival", "test")


@nox.session(name="bench-long", default=False)
def bench_long(session: nox.Session) -> None:
    """Read a PDF of 3,000 pages, or many files: memory over time, and the first page."""
    bench(session, "long_document", "test")


@nox.session(name="bench-encoding", default=False)
def bench_encoding(session: nox.Session) -> None:
    """Compare image formats for pages: size, time, and how well they are read."""
    bench(session, "encoding", "runtime")


@nox.session(name="bench-tuner", default=False)
def bench_tuner(session: nox.Session) -> None:
    """Try the tuner on simulated servers, against random search and a grid of as many starts."""
    bench(session, "tuner", "runtime")


@nox.session(name="bench-services", default=False)
def bench_services(session: nox.Session) -> None:
    """Compare services that are up, with random weights, alternating in one run."""
    bench(session, "services", "loadtest")


@nox.session(name="bench-accuracy", default=False)
def bench_accuracy(session: nox.Session) -> None:
    """Score the documents of a folder that have their correct text next to them as .txt or .md."""
    bench(session, "accuracy", "runtime")


@nox.session(name="bench-reproducible", default=False)
def bench_reproducible(session: nox.Session) -> None:
    """Build every image twice from nothing, and tell which layers differ and by what."""
    bench(session, "reproducible", "runtime")


@nox.session(name="bench-list", default=False)
def bench_list(session: nox.Session) -> None:
    """Compare `invoke --list` here with one over an empty tasks file."""
    bench(session, "task_list", "runtime")


@nox.session(default=False)
def requirements(session: nox.Session) -> None:
    """Resolve the requirement files again; `-- --upgrade` takes newer versions."""
    install(session, "uv")
    compile_ = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version=3.11")
    common = ("--generate-hashes", "--no-header", *session.posargs, "pyproject.toml")
    files = {"runtime": (), "loadtest": ("loadtest",), "test": ("test", "loadtest")}
    for name, extras in {**files, "lint": ("lint", "test", "loadtest")}.items():
        chosen = [f"--extra={extra}" for extra in extras]
        session.run(*compile_, *common, *chosen, "-o", f"requirements/{name}.txt")
    for group in ("clients", "downloader", "engine-tesseract", "exporter", "publish"):
        own = ("--generate-hashes", "--no-header", *session.posargs, f"--group={group}")
        apart = group in {"clients", "downloader", "publish"}
        pins = () if apart else ("-c", "requirements/runtime.txt")
        session.run(*compile_, *own, *pins, "-o", f"requirements/{group}.txt")
