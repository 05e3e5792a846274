"""`invoke download` and `invoke models.*`: what is done with the model store from this machine."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cloister import console, containers, deployment, modelstore, shell, userfile
from cloister.config import Settings, project_root
from cloister.engines import ENGINES
from cloister.errors import ModelStoreError
from cloister.images import catalogue
from cloister.modelstore import Pin, Revision, Store, pins, sanity
from cloister.runtimes.docker import overlay

_SIGNALS = 128  # above it a shell, or Docker, tells of a signal
# All that the downloader is told of our environment: where the hub is, and how to get there.
_HANDED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
_WAY = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Request:
    """What to download: a branch, a tag or a commit, in at most `deadline_s` seconds."""

    revision: str | None = None
    deadline_s: int | None = None


def download(settings: Settings, request: Request) -> Pin:
    """Bring the model of the settings into the store, by the downloader of the runtime.

    Raises ModelStoreError when it cannot be had, or cannot be served with these settings.
    """
    store = Store(settings.model.store)
    revision = request.revision or settings.model.revision
    flags = [settings.model.name]
    flags += [f"--revision={revision}"] if revision else []
    flags += [f"--deadline-s={request.deadline_s}"] if request.deadline_s else []
    _require_writable(store)
    run = _in_container if settings.runtime == "docker" else _as_process
    code = run(settings, flags)
    if not 0 <= code <= _SIGNALS:
        raise ModelStoreError(
            f"the downloader was killed (code {code})",
            hint="look for what killed it, then run it again: it goes on where it stopped",
        )
    if code != 0:
        raise ModelStoreError("")  # the downloader has said why
    pin = pins.find(store.root, settings.model.name)
    if pin is None:
        raise ModelStoreError(f"the downloader left nothing in `{store.root}`")
    sanity.check(store.folder(pin.model, pin.revision), settings)
    return pin


def listing(settings: Settings) -> list[tuple[Revision, Pin | None, bool]]:
    """Return what is in the store, with what is locked of it and whether it is the one served."""
    store, served = Store(settings.model.store), modelstore.folder(settings)
    return [
        (found, pins.find(store.root, found.model, found.revision), found.folder == served)
        for found in store.revisions()
    ]


def verify(settings: Settings, model: str | None) -> list[Pin]:
    """Compare every byte of the models, or of one, with the lock; asks no network.

    Raises ModelStoreError for the first difference, and when there is nothing to compare.
    """
    store = Store(settings.model.store)
    chosen = [found for found in store.revisions() if model in {None, found.model}]
    complete = [found for found in chosen if found.state != "partial"]
    if not complete:
        raise ModelStoreError(f"no model to verify in `{store.root}`", hint="invoke download")
    with console.transfer("verifying", sum(found.size for found in complete)) as advance:
        return [_verified(store, found, advance) for found in complete]


def _verified(store: Store, found: Revision, advance: Callable[[int], None]) -> Pin:
    try:
        return store.verify(found.model, found.revision, advance)
    except ModelStoreError as error:
        again = f"invoke download --model {found.model} --revision {found.revision}"
        raise ModelStoreError(error.message, hint=f"{again} fetches what is wrong") from error
    except OSError as error:
        raise ModelStoreError(f"`{error.filename}` cannot be read: {error.strerror}") from error


def remove(settings: Settings, model: str, revision: str | None) -> int:
    """Remove one revision of a model and return its bytes; not the one that is being served.

    Raises ModelStoreError when it is not clear which one is meant, or when it is in use.
    """
    store = Store(settings.model.store)
    chosen = _one(store, model, revision)
    recorded = deployment.recorded(settings)
    served = (recorded.settings, recorded.previous) if recorded else ()
    if any(one is not None and _may_serve(one, store, chosen) for one in served):
        raise ModelStoreError(
            f"`{model}` at {chosen.revision} is being served, or may be",
            hint="invoke down; or models.use another revision, then invoke up",
        )
    try:
        return store.remove(chosen.model, chosen.revision)
    except OSError as error:
        raise ModelStoreError(f"`{error.filename}` cannot be removed: {error.strerror}") from error


def use(settings: Settings, model: str, revision: str | None) -> Path:
    """Make cloister.yaml name a model that is there, and return that file.

    Raises ModelStoreError when it is not complete.
    """
    store = Store(settings.model.store)
    chosen = _one(store, model, revision)
    store.require(chosen.model, chosen.revision)
    return userfile.set_keys("model", {"name": chosen.model, "revision": chosen.revision})


def _may_serve(recorded: Settings, store: Store, chosen: Revision) -> bool:
    """Tell whether a deployment may have a revision open.

    Without `model.revision` it serves the one that was locked last when it came up, which need
    not be the one that is locked last now.
    """
    model = recorded.model
    return (
        ENGINES[recorded.engine].serves_model
        and chosen.state != "partial"
        and model.folder is None
        and (model.name, model.store.resolve()) == (chosen.model, store.root.resolve())
        and model.revision in {None, chosen.revision}
    )


def _one(store: Store, model: str, revision: str | None) -> Revision:
    chosen = [
        found
        for found in store.revisions()
        if found.model == model and found.revision.startswith(revision or "")
    ]
    if len({found.revision for found in chosen}) != 1:
        there = ", ".join(f"{found.model} {found.revision[:12]}" for found in store.revisions())
        problem = "is not in the store" if not chosen else "is there in several revisions"
        raise ModelStoreError(
            f"`{model}` {problem}; there are: {there or 'none'}",
            hint="invoke models.list; name one with --revision" if chosen else "invoke download",
        )
    return chosen[0]


def _require_writable(store: Store) -> None:
    try:
        store.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelStoreError(
            f"`{store.root}` cannot be made: {error.strerror}", hint="set `model.store`"
        ) from error


def _as_process(settings: Settings, flags: list[str]) -> int:
    # A process of its own: huggingface_hub reads its variables when it is imported.
    names = (*_HANDED, *_WAY, *_PROXIES, *(name.lower() for name in _PROXIES))
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"PYTHONPATH": str(project_root()), "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-m", "cloister.downloader", *flags]
    command += [f"--store={settings.model.store}"]
    return shell.attend(command, environment=environment, inherit=False)


def _in_container(settings: Settings, flags: list[str]) -> int:
    image = catalogue()["downloader"].reference(settings.docker)
    with containers.explained():
        if not containers.connect().images.list(image):
            raise ModelStoreError(f"the image `{image}` is missing", hint="invoke images.build")
    owner = settings.model.store.stat()
    file = project_root() / overlay.FOLDER / "compose.yaml"
    with _token_file(owner.st_uid) as token:
        environment = {
            **overlay.variables(settings, None),
            "CLOISTER_USER": f"{owner.st_uid}:{owner.st_gid}",
            "HF_TOKEN_FILE": str(token),
            # Compose hands on the names in capitals; curl and Python know the small ones as well.
            **{n: os.environ[n.lower()] for n in _PROXIES if os.environ.get(n.lower())},
        }
        compose = (*containers.compose(), f"--file={file}", "--profile=setup")
        terminal = () if sys.stderr.isatty() and sys.stdin.isatty() else ("--no-TTY",)
        command = [*compose, "run", "--rm", "--pull=never", *terminal, "model-downloader", *flags]
        return shell.attend(command, environment=environment)


def _stored_token() -> str:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    given = os.environ.get("HF_TOKEN_PATH")
    path = Path(given) if given else home / "token"
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        if given is None:
            return ""
        raise ModelStoreError(f"HF_TOKEN_PATH names `{path}`, which cannot be read") from None


@contextlib.contextmanager
def _token_file(owner: int) -> Iterator[Path]:
    """Give the hub's token as a file, which no list of variables or processes shows."""
    token = os.environ.get("HF_TOKEN") or _stored_token()
    with tempfile.NamedTemporaryFile("w", prefix="cloister-token-") as file:
        file.write(token)
        file.flush()
        if os.geteuid() == 0:
            os.chown(file.name, owner, -1)  # root in a container without rights reads only its own
        yield Path(file.name)
