#!/usr/bin/env bash
# The web console: console.sh build|test|cluster|check|views
#
# build    builds it where it is older than its sources; the next build of the server has it inside
# test     lints it, runs its unit tests and builds it; needs no server
# cluster  starts a server, two nodes, one that asks to join, people and stacks for the console to show; prints the
#          address and how to sign in as JSON, and ends them at Ctrl+C
# views    drives every view in Chromium against that cluster; UPDATE_SHOTS=1 takes the pictures of docs/console/ anew
# check    tests that cluster: what it promises to the console's tests, and that it leaves nothing
#
# The programs of cluster and check are those in LATTICE_BIN_DIR; where that is not set, debug ones are built.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$LATTICE_ROOT"

mode="${1:-}"
case "$mode" in build | test | cluster | check | views) ;; *) die "usage: console.sh build|test|cluster|check|views" ;; esac

# What the built console is made of.
sources=(apps/console/src apps/console/public apps/console/scripts apps/console/index.html apps/console/package-lock.json
  apps/console/vite.config.ts api/openapi.json)
if [ "$mode" = build ]; then
  built=apps/console/dist/index.html
  if [ -e "$built" ] && [ -z "$(find "${sources[@]}" -path '*/generated' -prune -o -newer "$built" -type f -print -quit)" ]; then
    say "    the web console is built"
    exit 0
  fi
  scripts/deps.sh build
  source "$LATTICE_ROOT/scripts/lib.sh"
  cd apps/console
  npm ci --no-audit --no-fund >&2
  npm run build >&2
  exit 0
fi

if [ "$mode" = test ]; then
  scripts/deps.sh build console
  # deps.sh may just have fetched a Node.js, which lib.sh finds where it is sourced anew.
  source "$LATTICE_ROOT/scripts/lib.sh"
  cd apps/console
  npm ci --no-audit --no-fund
  npm run lint
  npm test
  npm run build
  exit 0
fi

if [ -z "${LATTICE_BIN_DIR:-}" ]; then
  section "what this machine needs"
  scripts/deps.sh build run test console
  hash -r
  in_docker_group "$LATTICE_ROOT/scripts/console.sh" "$@"
  section "Docker and test images"
  scripts/engine.sh start
  scripts/images.sh
  section "web console"
  scripts/console.sh build
  section "programs"
  cargo build --locked -p lattice -p lattice-agent
  LATTICE_BIN_DIR="$(target_dir)/debug"
  export LATTICE_BIN_DIR
  section_end
fi
# deps.sh may just have fetched a Node.js, which lib.sh finds where it is sourced anew.
source "$LATTICE_ROOT/scripts/lib.sh"

case "$mode" in
  cluster) exec node apps/console/e2e/cluster.mjs ;;
  check) node --test apps/console/e2e/cluster.test.mjs >&2 ;;
  views) node --test --test-concurrency=1 apps/console/e2e/views.test.mjs >&2 ;;
esac
