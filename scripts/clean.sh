#!/usr/bin/env bash
# make clean: removes what was built (target/, dist/) and what tests left in Docker (label lattice.test).
# Leaves alone: running stacks, the data under LATTICE_HOME, the test images and their cache, a running engine.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$LATTICE_ROOT"

if have cargo; then cargo clean; else rm -rf target; fi
rm -rf dist
if engine_answers; then
  mapfile -t left < <(docker ps -aq --filter label=lattice.test)
  if [ ${#left[@]} -gt 0 ]; then docker rm -f -v "${left[@]}" >/dev/null; fi
  say "    test containers removed: ${#left[@]}"
  mapfile -t left < <(docker network ls -q --filter label=lattice.test)
  if [ ${#left[@]} -gt 0 ]; then docker network rm "${left[@]}" >/dev/null; fi
  say "    test networks removed: ${#left[@]}"
  mapfile -t left < <(docker volume ls -q --filter label=lattice.test)
  if [ ${#left[@]} -gt 0 ]; then docker volume rm -f "${left[@]}" >/dev/null; fi
  say "    test volumes removed: ${#left[@]}"
fi
