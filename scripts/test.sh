#!/usr/bin/env bash
# Installs what the tests need, then runs every one of them; arguments go to nox.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=scripts/prerequisites.sh
. scripts/prerequisites.sh

require_python
require_environment
require_nginx
exec .venv/bin/nox "$@"
