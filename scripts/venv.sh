#!/bin/sh
# Make the virtual environment $1 with this project and its extra $2 in it.
# A fresh Debian has python3 without its venv module: then virtualenv or apt-get helps out.
set -eu
venv=$1 extra=$2 python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "sillyproxy needs Python 3.11 or newer ($python is $("$python" --version 2>&1)); say make PYTHON=python3.12" >&2
    exit 1
fi
if [ ! -x "$venv/bin/pip" ]; then
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        if "$python" -m virtualenv --version >/dev/null 2>&1; then
            "$python" -m virtualenv -q "$venv"
        elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "installing python3-venv" >&2
            apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
            "$python" -m venv "$venv"
        else
            echo "python's venv module is missing; on Debian: sudo apt-get install python3-venv" >&2
            exit 1
        fi
    fi
fi
echo "installing sillyproxy[$extra] into $venv (once)" >&2
"$venv/bin/pip" install -q --disable-pip-version-check -e ".[$extra]"
