#!/usr/bin/env bash
# make up: from a fresh clone to a running control plane with this machine as its first node.
# Installs what is missing, builds the release, sees to Docker, and becomes `lattice up`; arguments go there.
# Ctrl-C stops server and agent and leaves the workloads running.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

section "what this machine needs"
"$LATTICE_ROOT/scripts/deps.sh" build run
hash -r
in_docker_group "$LATTICE_ROOT/scripts/up.sh" "$@"

section "web console"
"$LATTICE_ROOT/scripts/console.sh" build ||
  warn "the web console could not be built: its messages above say why. The server goes up without it, and the next 'make up' tries again"

section "release build (some minutes the first time)"
cd "$LATTICE_ROOT"
cargo build --release --locked -p lattice -p lattice-agent

section "Docker"
"$LATTICE_ROOT/scripts/engine.sh" start
section_end
say ""

exec "$(target_dir)/release/lattice" up "$@"
