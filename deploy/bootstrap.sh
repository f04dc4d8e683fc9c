#!/bin/sh
# Finds a Python that the locked environment has wheels for, and lets it do the rest: sh deploy/bootstrap.sh demo|dev
set -eu
cd "$(dirname "$0")/.."

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1; }

for python in ${PYTHON:+"$PYTHON"} python3 python python3.14 python3.13 python3.12 python3.11; do
    if fits "$python"; then
        exec "$python" deploy/bootstrap.py "$@"
    fi
done
echo "No Python 3.11 to 3.14 found (looked for python3, python, python3.11 ... python3.14 on the PATH)." >&2
echo "Install one of them, or name one: make PYTHON=/path/to/python3 ..." >&2
exit 2
