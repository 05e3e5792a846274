"""Become `vllm serve`: the entry point of the vllm image, and of a replica as a process.

Run as `python -m cloister.engines.vllm --model FOLDER --device cpu`. Standard library only.
"""

import os
import shutil
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path

from cloister import sockets
from cloister.endpoint import UnixSocket, parse
from cloister.engines.vllm.options import Options

# What vLLM's image knows of the model beforehand: images/vllm/Dockerfile.
_KEPT = Path("/opt/vllm-cache")
_ROOT = Path(__file__).parents[3]
# A store's revision has this file when it is complete; it lies below the model's name, of one part
# or two: cloister/modelstore.
_MODEL, _READY, _DEPTHS = "config.json", "READY", ("*/*", "*/*/*")


def fill_cache(environment: Mapping[str, str], kept: Path = _KEPT) -> None:
    """Copy what the image kept to where vLLM looks, a folder that is empty at each start."""
    place = environment.get("VLLM_CACHE_ROOT")
    if place is not None and kept.is_dir():
        shutil.copytree(kept, place, dirs_exist_ok=True)


def find_model(place: Path) -> Path:
    """Return the folder of the model at `place`: that one, or the only one of a model store.

    Raises ValueError where it holds none or several.
    """
    if (place / _MODEL).is_file():
        return place
    found = sorted({ready.parent for depth in _DEPTHS for ready in place.glob(f"{depth}/{_READY}")})
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"several models below `{place}`: {', '.join(map(str, found))}\n"
            "hint: name one by --model, or remove the others"
        )
    raise ValueError(
        f"no model in `{place}`\nhint: invoke download, or with plain Compose "
        "`docker-compose --profile setup up model-downloader`"
    )


def let_import(environment: MutableMapping[str, str], root: Path = _ROOT) -> None:
    """Have `vllm` find this package, whose middleware it imports, whatever Python it runs on."""
    folders = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys((str(root), *folders)))


def main() -> None:
    """Replace this process, so that signals reach vLLM itself."""
    options = Options.parse(sys.argv[1:])
    try:
        options = replace(options, model=str(find_model(Path(options.model))))
    except ValueError as error:
        sys.exit(f"error: {error}")
    command = options.serve()
    program = shutil.which(command[0])
    if program is None:
        sys.exit("error: `vllm` is not on PATH\nhint: install vLLM 0.32 or newer")
    endpoint = parse(options.listen)
    if isinstance(endpoint, UnixSocket):
        # vLLM binds it as it is told, removes none, and has no flag for who may connect.
        try:
            sockets.make_way(endpoint.path)
        except OSError as error:
            sys.exit(f"error: `{endpoint.path}` cannot be used: {error.strerror}")
        os.umask(sockets.UMASK)
    os.environ.update(options.environment())
    let_import(os.environ)
    fill_cache(os.environ)
    os.execv(program, command)  # noqa: S606  # a list, no shell


if __name__ == "__main__":
    main()
