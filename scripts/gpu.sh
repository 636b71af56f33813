#!/usr/bin/env bash
# Has a container of the local engine use every NVIDIA GPU of this machine, with the agent as it is built, and says
# how containers get them: gpu.sh. Skipped where there is no driver; fails where there is one and no container can.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ ! -e /proc/driver/nvidia/version ]; then
  say "skipped: no NVIDIA driver here"
  exit 0
fi
cargo build -p lattice-agent
home="$(mktemp -d)"
trap 'rm -rf "$home"' EXIT
LATTICE_HOME="$home" "${CARGO_TARGET_DIR:-target}/debug/lattice-agent" gpu prove
LATTICE_HOME="$home" "${CARGO_TARGET_DIR:-target}/debug/lattice-agent" gpu -o json | grep -q '"state": "proven"' ||
  die "no GPU is proven; what stands in the way is above"
