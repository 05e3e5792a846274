#!/usr/bin/env bash
# Installs what the tests need, then runs every one of them; arguments go to nox.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=scripts/prerequisites.sh
. scripts/prerequisites.sh

usage() {
    cat <<'END'
usage: scripts/test.sh [--yes] [--help] [arguments of nox]

Installs what the tests need (Python packages into .venv, nginx, curl, poppler, and Docker, a
registry and skopeo for the container tests) and runs all of them. Docker is installed and started
only as root on Debian, after asking or with --yes, registry and skopeo with --yes; in CI (CI=true)
all without asking. An engine that was started here is stopped at the end.
END
}

yes=""
[ "${CI:-}" != true ] || yes=yes
case "${1:-}" in
    --yes)
        yes=yes
        shift
        ;;
    --help | -h)
        usage
        exit 0
        ;;
esac

require_python
require_environment
require_nginx
require_client_tools
require_docker "$yes"
require_registry "$yes"
require_skopeo "$yes"
trap stop_docker EXIT
.venv/bin/nox "$@"
