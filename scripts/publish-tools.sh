#!/usr/bin/env bash
# Installs what `invoke images.publish` calls and nothing that serves needs: skopeo, syft, cosign.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=scripts/prerequisites.sh
. scripts/prerequisites.sh

usage() {
    cat <<'TEXT'
usage: scripts/publish-tools.sh [--help]

Installs skopeo and cosign by the system's package manager where they are missing, and syft, pinned
by its hash, into .venv, which scripts/setup-nanonets.sh makes. Running it again is harmless.
TEXT
}

case "${1:-}" in
    --help | -h)
        usage
        exit 0
        ;;
    "") ;;
    *) fail 2 "unknown argument $1" "scripts/publish-tools.sh --help" ;;
esac
[ -x .venv/bin/python ] || fail 10 "there is no .venv" "./scripts/setup-nanonets.sh --no-start"

.venv/bin/python -m uv --quiet pip install --python .venv/bin/python --require-hashes \
    -r requirements/publish.txt
for program in skopeo cosign; do
    command -v "$program" >/dev/null 2>&1 || install "$program" "$program"
done
