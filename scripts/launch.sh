# shellcheck shell=bash
# Sourced by the run_*.sh scripts: finds a Python with MindSpore and calls src/msdet/tools/launcher/launch.py, which
# contains the table of arguments of all scripts and models.
#
#   launch NAME "$@"
#
# PYTHON=/path/to/python selects the interpreter; otherwise the first one with the packages is used: that of an active
# virtual or conda environment, of .venv in the repository, or python3.

root=$(unset CDPATH && cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Does not import the packages, because MindSpore takes seconds, and ignores the current folder.
has_packages() {
    "$1" -c 'import sys
from importlib.util import find_spec
sys.path[:] = filter(None, sys.path)
sys.exit(not all(map(find_spec, ("yaml", "mindspore"))))' >/dev/null 2>&1
}

choose_python() {
    local candidate tried=
    for candidate in "${VIRTUAL_ENV:+$VIRTUAL_ENV/bin/python}" "${CONDA_PREFIX:+$CONDA_PREFIX/bin/python}" \
        "$root/.venv/bin/python" python3 python; do
        candidate=${PYTHON:-$candidate}
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1; then
            if has_packages "$candidate"; then
                command -v "$candidate"
                return
            fi
            tried+=" $(command -v "$candidate")"
        fi
        # A given PYTHON is not replaced by another.
        if [ -n "${PYTHON:-}" ]; then break; fi
    done
    if [ -n "$tried" ]; then
        printf 'error: no Python with MindSpore and PyYAML; tried:%s\n' "$tried" >&2
    else
        printf 'error: no Python found%s\n' "${PYTHON:+: PYTHON is $PYTHON}" >&2
    fi
    printf 'run bash scripts/quickstart.sh once, install requirements.txt, or set PYTHON=/path/to/python\n' >&2
    return 1
}

launch() {
    local python
    python=$(choose_python) || exit 1
    case $python in
    /*) ;;
    *) python=$PWD/$python ;;
    esac
    # The package is imported from the repository; typed paths are relative to the folder of the caller.
    export LAUNCH_FROM=$PWD PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
    cd "$root" || exit 1
    exec "$python" -m msdet launch "$@"
}
