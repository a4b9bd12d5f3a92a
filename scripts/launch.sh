# shellcheck shell=bash
# Sourced by the run_*.sh scripts: finds a Python that can import MindSpore's companions and hands over to
# src/tools/launch.py, where the arguments of all scripts and models stand in one table.
#
#   launch NAME "$@"
#
# PYTHON=/path/to/python chooses the interpreter; else it is that of an active virtual or conda environment, of .venv
# in the repository, or python3.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

choose_python() {
    local candidate
    for candidate in "${PYTHON:-}" "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" \
        "$root/.venv/bin/python" python3 python; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    printf 'error: no Python found: run bash scripts/quickstart.sh once, or set PYTHON=/path/to/python\n' >&2
    return 1
}

launch() {
    local python
    python=$(choose_python) || exit 1
    case $python in
    /*) ;;
    *) python=$PWD/$python ;;
    esac
    # The package is found from the repository; the paths that were typed count from the folder of the caller.
    export LAUNCH_FROM=$PWD
    cd "$root" || exit 1
    exec "$python" -m src.tools.launch "$@"
}
