#!/usr/bin/env bash
# Installs what `invoke images.publish` calls and nothing that serves needs: skopeo, syft, cosign.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "$0")/.."
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
is_environment || fail 10 "there is no complete .venv" "./scripts/setup-nanonets.sh --no-start"

# An interruption leaves half of syft, which uv takes for the whole.
again=()
.venv/bin/syft version >/dev/null 2>&1 || again=(--reinstall)
.venv/bin/python -m uv --quiet pip install --python .venv/bin/python --require-hashes \
    ${again[@]+"${again[@]}"} -r requirements/publish.txt
for program in skopeo cosign; do
    command -v "$program" >/dev/null 2>&1 || install "$program" "$program"
done
