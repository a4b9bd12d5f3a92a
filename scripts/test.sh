#!/usr/bin/env bash
# Makes .venv with the test tools, then runs shell and Python linters and the tests.
#
#   bash scripts/test.sh [--slow] [pytest's arguments]
#
# --slow adds the tests that take minutes. PYTHON=/path/to/python3.11 chooses the Python that .venv is made from;
# PYTEST_WORKERS=4 the number of processes (default 2).
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
set -euo pipefail
# shellcheck source=scripts/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
fi

prepare_environment requirements.txt requirements-test.txt
cd "$root"
failed=()
"$python" -m ruff check . || failed+=("ruff check")
"$python" -m ruff format --check . || failed+=("ruff format")
"$python" -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile "$@" || failed+=("pytest")

if [ ${#failed[@]} -gt 0 ]; then
    printf -v names '%s, ' "${failed[@]}"
    die "failed: ${names%, }"
fi
say "all passed"
