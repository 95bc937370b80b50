#!/bin/sh
# Compiles the locked requirements from the ranges in pyproject.toml. Usage: requirements/compile.sh UV
# No index address is written: whoever installs uses the index they are set up for.
set -eu
cd "$(dirname "$0")/.."
uv="$1"
compile() {
    out="$1"
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" --output-file "requirements/$out"
}
echo "uv==0.13.9" | "$uv" pip compile --quiet --universal --generate-hashes --no-header --no-annotate - \
    --output-file requirements/uv.txt
compile serve.txt pyproject.toml --group build
compile test.txt pyproject.toml --group build --group test --group lint --constraint requirements/serve.txt
# Everything that torch and training need but torch itself.
compile training.txt requirements/training.in --constraint requirements/test.txt
# What `make bench` measures beside the service.
compile benchmark.txt requirements/benchmark.in --constraint requirements/test.txt
# The extra cuda: NVIDIA's libraries beside requirements/serve.txt, whose versions it keeps.
compile cuda.txt pyproject.toml --extra cuda --constraint requirements/test.txt
# The extra openvino, beside requirements/serve.txt, whose versions it keeps.
compile openvino.txt pyproject.toml --extra openvino --constraint requirements/test.txt
# The extra otel, beside requirements/serve.txt, whose versions it keeps.
compile otel.txt pyproject.toml --extra otel --constraint requirements/test.txt
# Tools that judge from outside: make openapi, sbom, audit.
compile audit.txt --group audit --constraint requirements/test.txt
