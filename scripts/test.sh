#!/usr/bin/env bash
# Creates .venv with the test tools, then runs the linters, the type checker and the tests.
#
#   bash scripts/test.sh [--slow] [pytest's arguments]
#
# --slow adds the tests that take minutes. PYTHON=/path/to/python3.11 selects the Python for .venv; PYTEST_WORKERS=4 the
# number of processes (default 2).
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
# tests/ascend compiles stubs of CANN.
if ! command -v g++ >/dev/null 2>&1; then
    if [ "$EUID" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing g++ for tests/ascend"
        { apt-get update && apt-get install -y --no-install-recommends g++ binutils; } >/dev/null 2>&1 || true
    fi
    command -v g++ >/dev/null 2>&1 || say "there is no g++: tests/ascend is skipped (Debian, Ubuntu: sudo apt-get install g++)"
fi
failed=()
"$python" -m ruff check . || failed+=("ruff check")
"$python" -m ruff format --check . || failed+=("ruff format")
"$python" -m mypy || failed+=("mypy")
"$python" -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile "$@" || failed+=("pytest")

if [ ${#failed[@]} -gt 0 ]; then
    printf -v names '%s, ' "${failed[@]}"
    die "failed: ${names%, }"
fi
say "all passed"
