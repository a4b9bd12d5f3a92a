# shellcheck shell=bash
# Sourced by the run_*.sh scripts: finds a Python that has MindSpore and hands over to src/msdet/tools/launcher/launch.py, where the
# arguments of all scripts and models stand in one table.
#
#   launch NAME "$@"
#
# PYTHON=/path/to/python chooses the interpreter; else it is the first that has the packages: that of an active virtual
# or conda environment, of .venv in the repository, or python3.

root=$(unset CDPATH && cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Looks without importing, since MindSpore takes seconds, and not in the folder of the caller.
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
        # One that was named is not exchanged for another.
        if [ -n "${PYTHON:-}" ]; then break; fi
    done
    if [ -n "$tried" ]; then
        printf 'error: no Python that has MindSpore and PyYAML; tried:%s\n' "$tried" >&2
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
    # The package is found from the repository; the paths that were typed count from the folder of the caller.
    export LAUNCH_FROM=$PWD PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
    cd "$root" || exit 1
    exec "$python" -m msdet launch "$@"
}
