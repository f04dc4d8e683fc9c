#!/bin/sh
# Writes requirements/*.txt: every version and hash for every platform, and no addresses.
set -eu
cd "$(dirname "$0")/.."
uv=$(sh deploy/bootstrap.sh uv)

compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"
}

compile pyproject.toml --all-extras -o requirements/all.txt "$@"
# The parts follow the whole, so that no two environments disagree.
compile pyproject.toml --extra demo -c requirements/all.txt -o requirements/demo.txt
compile pyproject.toml --extra dev -c requirements/all.txt -o requirements/dev.txt
# What sets up: uv itself, what builds our own package, and what fetches Kafka's jars while the rest is installed.
echo uv | compile - -o requirements/uv.txt "$@"
printf 'hatchling\neditables\n' | compile - -o requirements/build.txt "$@"
echo jgo | compile - -c requirements/all.txt -o requirements/jars.txt
