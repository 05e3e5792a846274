"""Run one Tesseract engine: `python -m cloister.engines.tesseract --listen 127.0.0.1:8101`."""

import logging
import sys

import uvicorn

from cloister import sockets
from cloister.endpoint import parse
from cloister.engines.tesseract.app import Server
from cloister.engines.tesseract.options import Options


def main() -> None:
    """Serve until SIGTERM; pages in flight are finished first."""
    options = Options.parse(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    config = uvicorn.Config(
        Server(options).app(),
        access_log=False,
        log_config=None,
        server_header=False,
        # nginx keeps its idle connections for 60 s; a shorter time here would race with it.
        timeout_keep_alive=75,
    )
    # Bound here: uvicorn removes a socket that is still served.
    uvicorn.Server(config).run(sockets=[sockets.bound(parse(options.listen))])


if __name__ == "__main__":
    main()
