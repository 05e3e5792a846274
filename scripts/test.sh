#!/usr/bin/env bash
# Installs what the tests need, then runs every suite, side by side.
set -euo pipefail

caller="$PWD"
CDPATH='' cd -- "$(dirname -- "$0")/.."
# shellcheck source=scripts/prerequisites.sh
. scripts/prerequisites.sh

usage() {
    cat <<'END'
usage: scripts/test.sh [--yes] [--fast] [--help] [TARGET ...]

Installs what the tests need (Python packages into .venv, nginx, curl, poppler, and Docker, a
registry and skopeo for the container tests), runs all suites side by side and prints a summary:
time and processor time of each suite, its budget, and the ten slowest tests. Logs and summary.json
are written to reports/tests.

  TARGET   run only these: a suite (lint, types, workflows, unit, stack, docker, clients, or all), a
           path such as tests/stack/test_ocr.py, its name alone, or a part of a test's name
  --fast   run lint, types and unit only, which need no system packages
  --yes    install and start Docker, a registry and skopeo without asking; only root on Debian can.
           With CI=true this is the default, and a skipped test is a failure
  --help   print this text

An engine that was started here is stopped at the end.
END
}

yes=""
! is_ci || yes=yes
arguments=(--from "$caller")
for argument in "$@"; do
    case "$argument" in
        --yes) yes=yes ;;
        --help | -h)
            usage
            exit 0
            ;;
        --fast) arguments+=(--fast) ;;
        -*)
            say "error: unknown flag $argument; there are --yes, --fast and --help"
            say "hint: for flags of pytest run .venv/bin/nox -s unit -- FLAGS"
            exit 2
            ;;
        *) arguments+=("$argument") ;;
    esac
done

# A step below may fail, or be interrupted, after an engine was started.
trap stop_docker EXIT
require_python
require_environment
needs="$(.venv/bin/python -m suites --needs "${arguments[@]}")"
for need in $needs; do
    "require_$need" "$yes"
done

# Not in front: bash would hear of a closed terminal, which tells only the script that it runs, when
# all suites have ended. The runner hears TERM also before it has set its handlers; INT is ignored
# then, as bash starts what is not in front.
is_told="" runner=""
pass_on() {
    is_told=yes # for a signal that comes before the runner has its number here
    [ -z "$runner" ] || kill "$runner" 2>/dev/null || true
}
trap pass_on HUP INT TERM
.venv/bin/python -m suites "${arguments[@]}" &
runner=$!
[ -z "$is_told" ] || pass_on
while :; do
    code=0
    wait "$runner" || code=$? # the runner's, or that of a signal which has to be passed on first
    kill -0 "$runner" 2>/dev/null || break
done
runner="" # the number may be another program's by now
exit "$code"
