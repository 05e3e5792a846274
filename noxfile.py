"""Sessions for checks and benchmarks; `nox` alone runs what `.ci/run` runs."""

import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True

PYTHON = ["noxfile.py", "tasks", "cloister", "loadtests", "suites", "tests", "benchmarks"]
SHELL = [
    *("scripts/prerequisites.sh", "scripts/setup-nanonets.sh", "scripts/test.sh"),
    *("scripts/local-bases.sh", "scripts/bundle.sh", "images/gateway/collect.sh", ".ci/run"),
    *("scripts/registry-login.sh", "scripts/publish-tools.sh"),
]


def install(session: nox.Session, name: str) -> None:
    """Install one of the pinned requirement files, hashes checked."""
    session.install("--require-hashes", "-r", f"requirements/{name}.txt")


# How many tests of a suite run at once. They wait more than they work, but for the unit tests.
WORKERS = {"unit": 2, "stack": 3, "docker": 3, "clients": 2}


def pytest(session: nox.Session, suite: str, **environment: str) -> None:
    """Run a suite, or the tests that the command line has in its place.

    Only a whole suite is shared out among workers: a few tests are quicker to start in one process.
    """
    # Where it is set, all that a command under test imports is compiled anew, for each command.
    env = {"PYTHONDONTWRITEBYTECODE": None, **environment}
    shared = (f"--numprocesses={WORKERS[suite]}", "--dist=loadfile", "--no-loadscope-reorder")
    arguments = session.posargs or (f"tests/{suite}", *shared)
    # The plugin reports to scripts/test.sh what passed; without it there is nobody to report to.
    session.run("python", "-m", "pytest", "-p", "suites.progress", *arguments, env=env)


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
    rendered = ("compose/gateway/nginx.conf", "tests/unit/golden/nginx-3.conf")
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
    theirs = Path(session.virtualenv.location) / "clients"
    session.run_install("uv", "venv", "--quiet", "--allow-existing", str(theirs))
    packages = ("--require-hashes", "requirements/clients.txt", f"--python={theirs}")
    session.run_install("uv", "pip", "sync", "--quiet", *packages)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(f"tests/clients/{name}", theirs)
    npm = (f"{theirs}/bin/npm", "ci", f"--prefix={theirs}", "--ignore-scripts", "--loglevel=error")
    # As UV_SYSTEM_CERTS in scripts/prerequisites.sh: for networks that inspect TLS.
    trust = {"NODE_USE_SYSTEM_CA": "1"}
    session.run_install(*npm, "--no-audit", "--no-fund", env=trust, external=True)
    return str(theirs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Repeat as often as tests/repetitions.py says for releases: unit, stack, docker, clients."""
    install(session, "test")
    environment = {"TEST_REPETITIONS": "soak", "CLIENTS_ENVIRONMENT": client_programs(session)}
    for suite in WORKERS:
        pytest(session, suite, **environment)
        if session.posargs:
            return


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


@nox.session(name="bench-engine", default=False)
def bench_engine(session: nox.Session) -> None:
    """Compare the gateway with the same Tesseract in a bare process pool, in one run."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.engine", *session.posargs)


@nox.session(name="bench-containers", default=False)
def bench_containers(session: nox.Session) -> None:
    """Compare sealed containers with the same engine and gateway as processes, in one run."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.containers", *session.posargs)


@nox.session(name="bench-download", default=False)
def bench_download(session: nox.Session) -> None:
    """Compare our download, hashes and all, with `hf download` from the same hub, in one run."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.download", *session.posargs)


@nox.session(name="bench-gateway", default=False)
def bench_gateway(session: nox.Session) -> None:
    """Compare the gateway with none and with HAProxy before a stub, in one run; needs HAProxy."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.gateway", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-key-timing", default=False)
def bench_key_timing(session: nox.Session) -> None:
    """Compare how long wrong keys take, by how much of them is right; needs a quiet machine."""
    install(session, "runtime")
    program = ("python", "-m", "benchmarks.key_timing")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-client", default=False)
def bench_client(session: nox.Session) -> None:
    """Compare what the load test's client measures with a stub's known times, and its cost."""
    install(session, "loadtest")
    program = ("python", "-m", "benchmarks.client_truth")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-tools", default=False)
def bench_tools(session: nox.Session) -> None:
    """Compare the load test with AIPerf and `vllm bench serve`, which are your own, in one run."""
    install(session, "test")
    program = ("python", "-m", "benchmarks.tools")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-faults", default=False)
def bench_faults(session: nox.Session) -> None:
    """Break replicas and programs under load, twenty times each: found and well again how soon."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.faults", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-saturation", default=False)
def bench_saturation(session: nox.Session) -> None:
    """Keep a fleet's queue full for half an hour: the watchdog must do nothing."""
    install(session, "runtime")
    program = ("python", "-m", "benchmarks.saturation")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-autoscale", default=False)
def bench_autoscale(session: nox.Session) -> None:
    """Try the autoscaling policy on simulated loads, against fleets of a fixed size."""
    install(session, "runtime")
    program = ("python", "-m", "benchmarks.autoscale")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-batch", default=False)
def bench_batch(session: nox.Session) -> None:
    """Compare `invoke ocr` with the load test on the same engine, by turns in one run."""
    install(session, "loadtest")
    session.run("python", "-m", "benchmarks.batch", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-survival", default=False)
def bench_survival(session: nox.Session) -> None:
    """Kill `invoke ocr` thirty times on 2,000 pages: no page is lost, none asked for in vain."""
    install(session, "test")
    program = ("python", "-m", "benchmarks.survival")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-long", default=False)
def bench_long(session: nox.Session) -> None:
    """Read a PDF of 3,000 pages, or many files: memory over time, and the first page."""
    install(session, "test")
    program = ("python", "-m", "benchmarks.long_document")
    session.run(*program, *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-encoding", default=False)
def bench_encoding(session: nox.Session) -> None:
    """Compare image formats for pages: size, time, and how well they are read."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.encoding", *session.posargs)


@nox.session(name="bench-tuner", default=False)
def bench_tuner(session: nox.Session) -> None:
    """Try the tuner on simulated servers, against random search and a grid of as many starts."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.tuner", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(name="bench-services", default=False)
def bench_services(session: nox.Session) -> None:
    """Compare services that are up, of weights that are noise, by turns in one run."""
    install(session, "loadtest")
    session.run("python", "-m", "benchmarks.services", *session.posargs)


@nox.session(name="bench-accuracy", default=False)
def bench_accuracy(session: nox.Session) -> None:
    """Score the documents of a folder that have their truth beside them as .txt or .md."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.accuracy", *session.posargs)


@nox.session(name="bench-reproducible", default=False)
def bench_reproducible(session: nox.Session) -> None:
    """Build every image twice from nothing, and tell which layers differ and by what."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.reproducible", *session.posargs)


@nox.session(name="bench-list", default=False)
def bench_list(session: nox.Session) -> None:
    """Compare `invoke --list` here with one over an empty tasks file."""
    install(session, "runtime")
    session.run("python", "-m", "benchmarks.task_list", *session.posargs)


@nox.session(default=False)
def requirements(session: nox.Session) -> None:
    """Resolve the requirement files again; `-- --upgrade` takes newer versions."""
    session.install("--require-hashes", "-r", "requirements/uv.txt")
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
