"""The downloader's command line: one model, its progress, and the folder it is in at the end."""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils import logging as hub_logging
from tqdm import tqdm

from cloister.cleaning import printable
from cloister.downloader.asking import Patience
from cloister.downloader.download import Progress, download
from cloister.downloader.hub import Hub
from cloister.modelstore import pins
from cloister.modelstore.store import Store


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloister.downloader", description=__doc__)
    parser.add_argument("model", help="such as nanonets/Nanonets-OCR2-3B")
    parser.add_argument(
        "--revision",
        help="a branch, a tag or a commit (default: the one that is locked, else main)",
    )
    parser.add_argument("--store", type=Path, default=Path("/models"), help="where models are kept")
    for name, value, meaning in (
        ("tries", Patience.tries, "attempts without progress"),
        ("stall-s", Patience.stall_s, "seconds after which a dripping connection is made anew"),
        ("deadline-s", Patience.deadline_s, "seconds for everything"),
    ):
        text = f"{meaning} (default: {value:g})"
        parser.add_argument(f"--{name}", type=type(value), default=value, help=text)
    return parser


@contextmanager
def _progress() -> Iterator[Progress]:
    tqdm.set_lock(threading.RLock())  # its own is for processes, and a kill would leak it
    with tqdm(
        unit="B", unit_scale=True, disable=None, dynamic_ncols=True, desc="model", total=0
    ) as bar:

        def total(size: int) -> None:
            bar.reset(size)
            if bar.disable:
                sys.stderr.write(f"downloading {size / 1e9:.2f} GB ...\n")

        yield Progress(total, bar.update, lambda text: bar.write(printable(text), file=sys.stderr))


def run(arguments: Sequence[str]) -> Path:
    """Download one model as the command line says and return its folder."""
    options = _parser().parse_args(arguments)
    hub_logging.set_verbosity(logging.ERROR)
    store = Store(options.store)
    patience = Patience(options.tries, options.stall_s, options.deadline_s)
    locked = pins.find(store.root, options.model)
    revision = options.revision or (locked.revision if locked else "main")
    hub = Hub(os.environ.get("HF_ENDPOINT"), patience)
    with _progress() as progress:
        pin = download(hub, store, options.model, revision, patience, progress)
    return store.folder(pin.model, pin.revision)
