"""`python -m cloister.downloader MODEL`: what `invoke download` runs, here or in a container."""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils import logging as hub_logging
from tqdm import tqdm

from cloister.downloader.download import Progress, download
from cloister.downloader.hub import Hub, Patience
from cloister.errors import CloisterError
from cloister.modelstore import pins
from cloister.modelstore.store import Store

_INTERRUPTED = 130


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

        yield Progress(total, bar.update, lambda text: bar.write(text, file=sys.stderr))


def main() -> None:
    """Download one model; end with 4 and a line or two that say why when it cannot be had."""
    options = _parser().parse_args()
    hub_logging.set_verbosity(logging.ERROR)
    store, patience = (
        Store(options.store),
        Patience(options.tries, options.stall_s, options.deadline_s),
    )
    try:
        locked = pins.find(store.root, options.model)
        revision = options.revision or (locked.revision if locked else "main")
        hub = Hub(os.environ.get("HF_ENDPOINT"), patience)
        with _progress() as progress:
            pin = download(hub, store, options.model, revision, patience, progress)
    except CloisterError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        os._exit(error.exit_code)  # streams that still wait must not hold it up
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run it again: it goes on where it stopped\n")
        sys.stderr.flush()
        os._exit(_INTERRUPTED)
    sys.stdout.write(f"{store.folder(pin.model, pin.revision)}\n")


if __name__ == "__main__":
    main()
