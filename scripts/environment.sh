# shellcheck shell=bash
# Sourced by the other scripts: finds a Python, creates .venv in the repository and installs the pinned requirements.
#
#   prepare_environment requirements.txt [requirements-test.txt]     sets $python
#
# If CANN is active (ASCEND_HOME_PATH), requirements-ascend.txt is installed as well.
# PYTHON=/path/to/python3.11 selects the interpreter for .venv.

# Removes other installations from PYTHONPATH, except CANN: its packages (te, hccl), which MindSpore needs on Ascend,
# exist only in its own folder.
keep_cann() {
    local entry home entries=() kept=
    IFS=: read -ra entries <<<"${PYTHONPATH:-}"
    for entry in ${entries[@]+"${entries[@]}"}; do
        for home in "${ASCEND_HOME_PATH:-}" "${ASCEND_TOOLKIT_HOME:-}" "${ASCEND_OPP_PATH:-}"; do
            if [ -n "$home" ] && [ "${entry#"${home%/}"/}" != "$entry" ]; then
                kept=${kept:+$kept:}$entry
                break
            fi
        done
    done
    unset PYTHONPATH PYTHONHOME
    if [ -n "$kept" ]; then export PYTHONPATH=$kept; fi
}
keep_cann

root=$(unset CDPATH && cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf '%s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# MindSpore 2.10 has wheels for these versions.
is_suitable() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1
}

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        is_suitable "$PYTHON" || die "PYTHON=$PYTHON is not a working Python 3.11 or 3.12"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3 python3.12 python3.11 python; do
        if is_suitable "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    die "no Python 3.11 or 3.12 on PATH (python3 is $(python3 --version 2>&1 || true)).
Install one (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv) or set PYTHON=/path/to/python3.11"
}

make_venv() {
    local base
    base=$(find_python)
    if ! "$base" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        die "$base has no venv module.
Install it (Debian, Ubuntu: sudo apt-get install python3-venv) or set PYTHON= to another Python"
    fi
    say "creating ${venv##*/} with $("$base" --version)"
    mkdir -p "$venv"
    : >"$venv/.unfinished"
    "$base" -m venv "$venv"
}

# A .venv is reused if its Python works, has a supported version and pip, and its installation was not interrupted. One
# that was not created by these scripts is never removed.
check_venv() {
    [ -e "$venv" ] || return 0
    if [ ! -e "$venv/.unfinished" ] && is_suitable "$venv/bin/python" && "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        return 0
    fi
    if [ ! -e "$venv/.unfinished" ] && [ ! -e "$venv/.requirements.txt" ]; then
        die "$venv has no working Python 3.11 or 3.12 with pip, and was not created by this script.
Remove or rename it, then try again"
    fi
    say "the installation in ${venv##*/} is broken or was interrupted: recreating it"
    rm -rf "$venv"
}

# .venv contains copies of the installed requirement files; changed requirements are installed again.
is_installed() {
    local file
    for file in "$@"; do
        cmp -s "$root/$file" "$venv/.$file" || return 1
    done
}

# Runs pip with a single progress line: the elapsed time and the current step.
install() {
    local file log=$venv/install.log start=$SECONDS pid at status=0 arguments=()
    for file in "$@"; do
        arguments+=(-r "$root/$file")
    done
    say "installing $* into ${venv##*/}; the first time takes minutes (requirements.txt: a download of about 1 GB)"
    # requirements.txt installs this package from the current folder.
    cd "$root" || exit 1
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        "${arguments[@]}" >"$log" 2>&1 &
    pid=$!
    # shellcheck disable=SC2064  # this pid, not a later one
    trap "kill $pid 2>/dev/null || true" EXIT
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        at=$(tail -n 1 "$log" 2>/dev/null | tr -d '\r' | cut -c 1-70)
        if [ -t 1 ]; then
            printf '\r\033[K  %d:%02d  %s' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "$at"
        elif [ $(((SECONDS - start) % 20)) -eq 0 ]; then
            printf '  %d:%02d  %s\n' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)) "$at"
        fi
    done
    wait "$pid" || status=$?
    trap - EXIT
    [ -t 1 ] && printf '\r\033[K'
    if [ "$status" -ne 0 ]; then
        tail -n 15 "$log" >&2
        die "pip could not install the requirements (all of its output: $log)"
    fi
}

prepare_environment() {
    local file
    if [ -n "${ASCEND_HOME_PATH:-}" ]; then
        set -- "$@" requirements-ascend.txt
    fi
    check_venv
    if [ ! -e "$venv" ]; then
        make_venv
    fi
    if ! is_installed "$@"; then
        : >"$venv/.unfinished"
        install "$@"
        for file in "$@"; do
            cp "$root/$file" "$venv/.$file"
        done
    fi
    rm -f "$venv/.unfinished"
    # shellcheck disable=SC2034  # used by the scripts that source this file
    python=$venv/bin/python
    # Use the code of this checkout, whichever copy of the package is installed.
    export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
}
