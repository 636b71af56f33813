#!/usr/bin/env bash
# make bench [ONLY=name]: measures the release build on this machine against the named references.
# Prints a table and replaces its rows in target/bench/results.json.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$LATTICE_ROOT"

only="${1:-}"
section "what this machine needs"
scripts/deps.sh build run
hash -r
in_docker_group "$LATTICE_ROOT/scripts/bench.sh" "$@"
section "Docker and test images"
scripts/engine.sh start
have mmdebstrap || scripts/deps.sh test
scripts/images.sh
section "release build (some minutes the first time)"
release_programs -p lattice-bench
LATTICE_BIN_DIR="$(target_dir)/release"
export LATTICE_BIN_DIR
section "benchmarks${only:+: $only}"
cargo run --release --locked -p lattice-bench -- ${only:+--only "$only"}
section_end
