#!/usr/bin/env bash
# Logs Docker in to the registry that images are published to, as CI does before it publishes.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=scripts/prerequisites.sh
. scripts/prerequisites.sh

usage() {
    cat <<'END'
usage: REGISTRY_USER=NAME REGISTRY_TOKEN=TOKEN scripts/registry-login.sh REGISTRY [--help]

Logs in to the host of REGISTRY, such as ghcr.io/owner/cloister. The token is read from the
environment alone, where no list of processes shows it. DOCKER names the client (default: docker).
END
}

case "${1:-}" in
    --help | -h)
        usage
        exit 0
        ;;
    "" | -*) fail 2 "no registry was named" "scripts/registry-login.sh --help" ;;
esac
[ -n "${REGISTRY_USER:-}" ] && [ -n "${REGISTRY_TOKEN:-}" ] ||
    fail 2 "REGISTRY_USER and REGISTRY_TOKEN are not both set" "scripts/registry-login.sh --help"

printf '%s' "$REGISTRY_TOKEN" |
    "${DOCKER:-docker}" login --username "$REGISTRY_USER" --password-stdin "${1%%/*}"
