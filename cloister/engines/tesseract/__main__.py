"""Run one Tesseract engine: `python -m cloister.engines.tesseract --port 8101`."""

import logging
import sys

import uvicorn

from cloister.engines.tesseract.app import Server
from cloister.engines.tesseract.options import Options


def main() -> None:
    """Serve until SIGTERM; pages in flight are finished first."""
    options = Options.parse(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    uvicorn.run(
        Server(options).app(),
        host=options.host,
        port=options.port,
        access_log=False,
        log_config=None,
        server_header=False,
        # nginx keeps its idle connections for 60 s; a shorter time here would race with it.
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
