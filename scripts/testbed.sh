#!/usr/bin/env bash
# make testbed: builds debug programs and starts several nodes on this machine: testbed.sh [FLAG…]
# The flags are those of `lattice-testbed up`. What it starts runs on until `lattice-testbed down`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$LATTICE_ROOT"

section "what this machine needs"
scripts/deps.sh build run testbed
hash -r
in_docker_group "$LATTICE_ROOT/scripts/testbed.sh" "$@"
section "Docker and test images"
scripts/engine.sh start
scripts/images.sh
section "programs"
scripts/console.sh build
cargo build --locked -p lattice -p lattice-agent -p lattice-testbed
section "testbed"
# The password is asked for here, where somebody can answer; later nobody asks.
if [ "$(id -u)" -ne 0 ]; then sudo -v || die "a testbed takes root: namespaces, mounts, control groups"; fi
"$(target_dir)/debug/lattice-testbed" up "$@"
section_end
