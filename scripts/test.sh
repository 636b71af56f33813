#!/usr/bin/env bash
# make test: everything that CI checks, in the order that fails soonest: test.sh [lint|full]
#
# lint   format, lints, licences and sources alone
# full   also the long tests (those marked #[ignore])
#
# Tests find the programs they drive in LATTICE_BIN_DIR, which is set here.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$LATTICE_ROOT"

mode="${1:-quick}"
case "$mode" in quick | lint | full) ;; *) die "usage: test.sh [lint|full]" ;; esac

section "what this machine needs"
if [ "$mode" = lint ]; then scripts/deps.sh build test; else scripts/deps.sh build run test; fi
hash -r
if [ "$mode" != lint ]; then
  in_docker_group "$LATTICE_ROOT/scripts/test.sh" "$@"
  section "Docker"
  scripts/engine.sh start
  section "test images"
  scripts/images.sh
fi

section "format"
cargo fmt --all --check
if have shellcheck; then shellcheck -x -P SCRIPTDIR scripts/*.sh tests/images/*/*.sh .ci/run; fi

section "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

if [ "$mode" != lint ]; then
  section "web console: lints, unit tests, build"
  scripts/console.sh test
fi

section "licences, bans, sources"
cargo deny --log-level error check bans licenses sources
# Known vulnerabilities are looked up in a database on the Internet; a machine that cannot reach it says so.
if timeout 120 cargo deny --log-level off fetch db >/dev/null 2>&1; then
  cargo deny --log-level error check --disable-fetch advisories
else
  say "    advisories: skipped: advisory database not reachable"
fi
if [ "$mode" = lint ]; then
  section_end
  exit 0
fi

section "programs that the tests drive"
# The whole workspace and not two packages: the same features then serve the tests, and nothing is built twice.
cargo build --workspace --bins --locked
LATTICE_BIN_DIR="$(target_dir)/debug"
export LATTICE_BIN_DIR

section "web console: every view in a browser, against a real cluster"
scripts/console.sh views

# Doc tests first, so that the last lines of a run are those of the real test runner; and only where a block of Rust
# opens in some documentation, since rustdoc would compile every crate to find none.
# shellcheck disable=SC2016
if find crates bin tests -name '*.rs' -path '*/src/*' -print0 | xargs -0 awk '
  FNR == 1 { open = 0 }
  /^ *\/\/[\/!] *```/ {
    if (!open && $0 ~ /```(rust|should_panic|no_run|compile_fail)?(,.*)?$/) found = 1
    open = !open
  }
  END { exit !found }'; then
  section "doc tests"
  cargo test --doc --workspace --locked --quiet
fi

# The stories of people again, with the control plane's store in PostgreSQL; the crates' own suites run on both always.
if [ "$mode" = full ]; then
  # The fuzz targets have three seconds each unless told otherwise.
  export LATTICE_FUZZ_SECONDS="${LATTICE_FUZZ_SECONDS:-90}" LATTICE_FUZZ_INPUTS="${LATTICE_FUZZ_INPUTS:-100000000}"
  section "tests, the long ones and $LATTICE_FUZZ_SECONDS s of each fuzz target included"
  cargo nextest run --workspace --locked --profile full --run-ignored all
  section "end to end on PostgreSQL"
  LATTICE_TEST_STORE=postgres cargo nextest run --workspace --locked --profile full --run-ignored all \
    -E 'package(lattice-e2e)'
else
  section "tests"
  cargo nextest run --workspace --locked
  section "end to end on PostgreSQL, the stories of kills and deployments"
  LATTICE_TEST_STORE=postgres cargo nextest run --workspace --locked \
    -E 'package(lattice-e2e) & test(/e2e::(killed|changes|cut)::/)'
fi
section_end
say "==> all passed ($SECONDS s)"
