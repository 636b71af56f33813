#!/usr/bin/env bash
# Says what this machine lacks, then installs it: deps.sh [build] [run] [test] [testbed] [console]   (the first three
# without arguments)
#
# build  a C compiler (the bundled SQLite and ring), Rust by rustup; Node.js with npm, for the web console. Where the
#        system's Node.js is too old, as Debian 12's is, a newer one is put beside it, into the cache (lib.sh finds it)
# run    Docker's engine and command, and the right of this user to use it; nft and ip, to close the network to containers
# test   cargo-nextest, cargo-deny, rustfmt, clippy, what a testbed needs, PostgreSQL (its programs alone: the tests
#        start instances of their own), OpenCL on the processor (pocl)
# testbed  mmdebstrap (for the test images); ip, nft, unshare, mkfs.ext4 (for machines in namespaces)
# console  Chromium and a font, for the tests of the web console
#
# A person is asked first; with CI=true or YES=1 nobody is. Where nobody is there to ask, it prints what to run and
# fails. Debian and Ubuntu are installed on; elsewhere what is missing is named.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ $# -eq 0 ]; then set -- build run test; fi
for purpose in "$@"; do
  case "$purpose" in build | run | test | testbed | console) ;; *) die "usage: deps.sh [build] [run] [test] [testbed] [console], not '$purpose'" ;; esac
done
wants() { case " $PURPOSES " in *" $1 "*) return 0 ;; esac; return 1; }
PURPOSES="$*"

RUST_NEEDED="$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$LATTICE_ROOT/Cargo.toml")"
# at_least HAVE WANT, as versions.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }
NODE_NEEDED=20.19.0
NODE_FETCHED=22.23.3
node_is_new_enough() { have node && at_least "$(node --version | tr -d v)" "$NODE_NEEDED"; }
rust_is_new_enough() {
  have cargo && have rustc && at_least "$(rustc --version | cut -d' ' -f2)" "$RUST_NEEDED"
}

# 1. What is missing, each with its reason.
packages=() reasons=() rust="" components=() crates=() group="" node=""
package() {
  packages+=("$1")
  reasons+=("$1: $2")
}

if wants build; then
  if ! have cc || [ ! -e /usr/include/stdio.h ]; then
    package gcc "a C compiler, for the bundled SQLite and the cryptography"
    package libc6-dev "the C library's headers, for the same"
  fi
  if ! rust_is_new_enough; then
    rust=1
    have curl || package curl "to fetch rustup"
    [ -e /etc/ssl/certs/ca-certificates.crt ] || package ca-certificates "to trust what is fetched"
    reasons+=("Rust $RUST_NEEDED or newer: by rustup, into ${CARGO_HOME:-$HOME/.cargo}")
  fi
  if ! node_is_new_enough; then
    node=1
    reasons+=("Node.js $NODE_NEEDED or newer: version $NODE_FETCHED of npm's package 'node', into $NODE_FOLDER")
  fi
  # Debian's npm brings a Node.js, which fetches the newer one.
  have npm || package npm "fetches the libraries of the web console, and builds it"
fi
if wants run && ! engine_answers; then
  if ! have dockerd; then
    package docker.io "Docker's engine, which runs the containers"
  fi
  if ! have docker && apt-cache show docker-cli >/dev/null 2>&1; then
    package docker-cli "Docker's command (newer releases have it apart from the engine)"
  fi
  # An engine in rootless mode or behind DOCKER_HOST answers without the group.
  if [ "$(id -u)" -ne 0 ] && [ -z "${DOCKER_HOST:-}" ] &&
    ! id -nG "$(id -un)" | tr ' ' '\n' | grep -qx docker; then
    group=1
    reasons+=("your right to use Docker: membership of the group 'docker' (it is as powerful as root on this machine)")
  fi
fi
if wants run && [ "$(uname -s)" = Linux ]; then
  have nft || [ -x /usr/sbin/nft ] || package nftables "nft: closes your network to containers"
  have ip || [ -x /usr/sbin/ip ] || package iproute2 "ip: tells what your network is"
fi
if wants test || wants testbed; then
  have mmdebstrap || package mmdebstrap "unpacks Debian packages into the test images"
  have ip || [[ " ${packages[*]} " == *" iproute2 "* ]] || package iproute2 "ip: the network of a testbed"
  have nft || [[ " ${packages[*]} " == *" nftables "* ]] || package nftables "nft: packets that a testbed loses"
  have mkfs.ext4 || package e2fsprogs "mkfs.ext4: the disks of a testbed"
  have setpriv || package util-linux "unshare, nsenter, losetup: the machines of a testbed"
fi
if wants test; then
  # Debian has them outside of the path.
  if ! have initdb && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    package postgresql "the tests start private instances of it; no cluster of the system is made"
  fi
  have docker-registry || package docker-registry "the tests start a registry of their own on loopback"
  # One of any maker would do, but for a processor: the work for GPUs is tried on this one.
  compgen -G '/etc/OpenCL/vendors/pocl*.icd' >/dev/null ||
    package pocl-opencl-icd "OpenCL on the processor: the work by which GPUs are measured is tested on it"
  # The driver does not bring what programs load to reach it.
  [[ "$(ldconfig -p 2>/dev/null)" == *libOpenCL.so.1* ]] ||
    package ocl-icd-libopencl1 "the library by which programs find OpenCL's drivers"
  if have cargo && ! cargo fmt --version >/dev/null 2>&1; then components+=(rustfmt); fi
  if have cargo && ! cargo clippy --version >/dev/null 2>&1; then components+=(clippy); fi
  for name in "${components[@]}"; do reasons+=("$name: a component of the Rust toolchain"); done
  have cargo-nextest || { crates+=(cargo-nextest) && reasons+=("cargo-nextest: runs the tests (built from source, minutes)"); }
  have cargo-deny || { crates+=(cargo-deny) && reasons+=("cargo-deny: checks licences and sources (built from source, minutes)"); }
fi
if wants console; then
  have chromium || package chromium "the tests of the web console drive it"
  compgen -G '/usr/share/fonts/truetype/dejavu/*' >/dev/null ||
    package fonts-dejavu-core "a font, so that pages of the tests have letters"
fi

if [ ${#reasons[@]} -eq 0 ]; then
  say "    nothing is missing to ${PURPOSES// /, }"
  exit 0
fi
say "Missing on this machine:"
for reason in "${reasons[@]}"; do say "  - $reason"; done

# 2. The same as commands, for a person who would rather type them.
commands=()
if [ ${#packages[@]} -gt 0 ]; then commands+=("apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"); fi
if [ -n "$rust" ]; then
  if have rustup; then
    commands+=("rustup toolchain install stable --profile default && rustup default stable")
  else
    commands+=("curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default")
  fi
fi
if [ ${#components[@]} -gt 0 ]; then commands+=("rustup component add ${components[*]}"); fi
for name in "${crates[@]}"; do commands+=("cargo install --locked $name"); done
if [ -n "$node" ]; then commands+=("npm install --prefix $NODE_FOLDER --no-save node@$NODE_FETCHED"); fi
if [ -n "$group" ]; then commands+=("usermod -aG docker $(id -un)"); fi

if [ ${#packages[@]} -gt 0 ] && ! have apt-get; then
  die "this is not a Debian or Ubuntu: install what the list above names by this system's own means, and try again"
fi
if ! agree "Install it now?"; then
  say "Nothing was installed. To do it yourself (apt-get and usermod as root):"
  for command in "${commands[@]}"; do say "  $command"; done
  say "or let this script do it: YES=1 scripts/deps.sh $PURPOSES"
  exit 1
fi

# 3. Install. apt's and cargo's own progress is shown.
if [ ${#packages[@]} -gt 0 ]; then
  say "--> apt-get install ${packages[*]}"
  as_root apt-get update -q >&2 || warn "apt-get update failed; trying with the lists that are there"
  # Debian's package would make a cluster and start it at each boot; nobody asked for one.
  no_cluster=""
  case " ${packages[*]} " in
    *" postgresql "*)
      no_cluster=/etc/postgresql-common/createcluster.d/lattice.conf
      as_root mkdir -p "${no_cluster%/*}"
      echo "create_main_cluster = false" | as_root tee "$no_cluster" >/dev/null
      ;;
  esac
  installed=0
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" >&2 ||
    installed=$?
  # Whoever installs a newer one later gets what Debian gives.
  if [ -n "$no_cluster" ]; then as_root rm -f "$no_cluster"; fi
  [ "$installed" -eq 0 ] || die "apt-get could not install: ${packages[*]}; its message above says why"
fi
if wants run && have dockerd && ! have docker; then
  # Newer releases have the command apart, which an empty package list does not tell beforehand.
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends docker-cli >&2 ||
    die "Docker's engine is there but not its command; install it by the name that this system gives it"
fi
if [ -n "$rust" ]; then
  say "--> Rust, by rustup"
  if have rustup; then
    rustup toolchain install stable --profile default >&2 && rustup default stable >&2
  else
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile default --no-modify-path >&2
  fi || die "Rust could not be installed: is the Internet reachable? See https://rustup.rs"
  hash -r
  rust_is_new_enough || die "Rust $RUST_NEEDED or newer is needed; 'rustc --version' says: $(rustc --version 2>&1)"
fi
if [ ${#components[@]} -gt 0 ]; then
  have rustup || die "this toolchain has no ${components[*]} and there is no rustup to add it"
  rustup component add "${components[@]}" >&2
fi
for name in "${crates[@]}"; do
  say "--> cargo install --locked $name (minutes)"
  # Not into the workspace's target folder: a tool is built once, whatever is cleaned here.
  env -u CARGO_TARGET_DIR cargo install --locked "$name" >&2 ||
    die "$name could not be installed: is crates.io reachable? 'make test' needs it; building and running do not"
done
if [ -n "$node" ]; then
  say "--> Node.js $NODE_FETCHED, by npm"
  mkdir -p "$NODE_FOLDER"
  # npm would rather be in a folder with a package.json of its own than look for one above.
  echo '{"private":true}' >"$NODE_FOLDER/package.json"
  npm install --prefix "$NODE_FOLDER" --no-save --no-audit --no-fund "node@$NODE_FETCHED" >&2 ||
    die "Node.js $NODE_FETCHED could not be installed: is npm's registry reachable?"
  # lib.sh looked for it before it was there.
  PATH="$NODE_FOLDER/node_modules/node/bin:$PATH"
  hash -r
  node_is_new_enough || die "Node.js $NODE_NEEDED or newer is needed; 'node --version' says: $(node --version 2>&1)"
fi
if [ -n "$group" ]; then
  say "--> usermod -aG docker $(id -un)"
  as_root usermod -aG docker "$(id -un)"
  say "    other terminals learn of it at the next login"
fi
say "    installed"
