#!/usr/bin/env bash
# Makes .venv with runbook (editable) and the extras named as arguments; does nothing when it is
# already as pyproject.toml says. Works on a fresh Debian, as root or not.
set -euo pipefail
cd "$(dirname "$0")/.."

extras="${1:?usage: tools/venv.sh EXTRA[,EXTRA...]}"
stamp=".venv/.with-${extras//,/-}"
if [ -e "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ]; then exit 0; fi

find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "runbook needs Python 3.11 or later; python3 here is $(python3 --version 2>&1)" >&2
    return 1
}

make_venv() {
    "$1" -m venv .venv >.venv.log 2>&1
}

if [ ! -x .venv/bin/pip ]; then
    python="$(find_python)"
    if ! make_venv "$python"; then
        rm -rf .venv
        # Debian's python3 comes without venv.
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            apt-get update -qq >>.venv.log 2>&1 || true
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >>.venv.log 2>&1
            make_venv "$python"
        else
            tail -n 3 .venv.log >&2
            echo "Python's venv module is missing. Run: sudo apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    rm -f .venv.log
fi

# Twice quiet: warnings of the user's own pip configuration are not ours to show.
.venv/bin/pip install --quiet --quiet --disable-pip-version-check --editable ".[$extras]"
touch "$stamp"
