#!/usr/bin/env bash
# Takes a fresh machine to a running service; running it again is harmless.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=scripts/prerequisites.sh
. scripts/prerequisites.sh

usage() {
    cat <<'END'
usage: scripts/setup-nanonets.sh [--no-start] [--help]

Installs what is missing (Python packages into .venv, nginx by the system's package manager), checks
the machine, starts the service and reads a sample page through it. Asks nothing unless a terminal
is attached and root is needed.

  --no-start   stop before the service is started
  --help       this text

The settings are those of cloister.yaml and CLOISTER_* variables, such as CLOISTER_GATEWAY_PORT.
END
}

start=yes
for argument in "$@"; do
    case "$argument" in
        --no-start) start=no ;;
        --help | -h)
            usage
            exit 0
            ;;
        *)
            say "error: unknown argument $argument; there are --no-start and --help"
            exit 2
            ;;
    esac
done

say "1/5 Python $MINIMUM_PYTHON or newer"
require_python
say "2/5 the environment .venv"
require_environment
say "3/5 nginx"
require_nginx
say "4/5 the machine"
.venv/bin/invoke setup

if [ "$start" = no ]; then
    say "not started; next: .venv/bin/invoke up"
    exit 0
fi

say "5/5 the service"
.venv/bin/invoke up
say ""
say "samples/invoice.png, read through the gateway:"
say ""
.venv/bin/invoke ocr samples/invoice.png
cat <<'END'

Next, after `source .venv/bin/activate`:
  invoke ocr YOUR.pdf      read a document of yours
  invoke status            see what runs
  invoke down              stop it
END
