#!/usr/bin/env bash
# Builds the documentation in both languages into site/, or serves it while it is edited.
#
#   bash scripts/docs.sh [build | serve] [mkdocs' arguments]
#
# A broken link, an unknown anchor or a page that is not in the navigation is an error. The tools are installed into
# .venv-docs. PYTHON=/path/to/python3.11 selects the interpreter.
if [ -z "${BASH_VERSION:-}" ]; then exec bash "$0" "$@"; fi
set -euo pipefail
# shellcheck source=scripts/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
fi

# The site needs neither MindSpore nor the package.
venv=$root/.venv-docs
prepare_environment requirements-docs.txt
cd "$root"
export NO_MKDOCS_2_WARNING=1
action=${1:-build}
[ $# -gt 0 ] && shift
exec "$python" -m mkdocs "$action" --strict "$@"
