# shellcheck shell=bash
# What every script here shares: words to the person, sudo, sections with elapsed time, and where things are.
# Sourced, never run. All talk goes to stderr, so that a script's stdout stays data.

LATTICE_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
LATTICE_CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/lattice"
LATTICE_STATE="${XDG_STATE_HOME:-$HOME/.local/state}/lattice"
export LATTICE_ROOT LATTICE_CACHE LATTICE_STATE

# rustup and `cargo install` put their programs here; a login shell that is older does not know yet.
case ":$PATH:" in *":${CARGO_HOME:-$HOME/.cargo}/bin:"*) ;; *) PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin" ;; esac
# An ordinary user's PATH on Debian has no sbin, where dockerd is.
case ":$PATH:" in *":/usr/sbin:"*) ;; *) PATH="$PATH:/usr/sbin:/sbin" ;; esac
# A Node.js for the web console, where deps.sh had to fetch one: the system's is older.
NODE_FOLDER="$LATTICE_CACHE/node"
if [ -x "$NODE_FOLDER/node_modules/node/bin/node" ]; then PATH="$NODE_FOLDER/node_modules/node/bin:$PATH"; fi
export PATH

say() { printf '%s\n' "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# section TITLE: closes the last section with its time and opens the next one; section_end closes the last.
SECTION_TITLE=""
SECTION_AT=0
section() {
  section_end
  SECTION_TITLE="$1"
  SECTION_AT=$SECONDS
  say ""
  say "==> $1"
}
section_end() {
  if [ -n "$SECTION_TITLE" ]; then
    say "    $SECTION_TITLE: done in $((SECONDS - SECTION_AT)) s ($SECONDS s in all)"
  fi
  SECTION_TITLE=""
}

# as_root CMD…: runs it as root, by sudo where this is an ordinary user.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo -- "$@"
  else
    die "this needs root and there is no sudo; as root, run: $*"
  fi
}

# agree QUESTION: a person is asked; CI=true or YES=1 answers yes; nobody there answers no (status 1).
agree() {
  if [ "${CI:-}" = true ] || [ "${YES:-}" = 1 ]; then return 0; fi
  if [ -t 0 ] && [ -t 2 ]; then
    local answer
    read -r -p "$1 [Y/n] " answer
    case "$answer" in "" | y | Y | yes | Yes) return 0 ;; esac
  fi
  return 1
}

# Where cargo puts what it builds: CARGO_TARGET_DIR, a config file or the default; cargo alone knows.
target_dir() {
  cargo metadata --format-version 1 --no-deps --locked --offline --manifest-path "$LATTICE_ROOT/Cargo.toml" |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# release_programs [CARGO ARGUMENTS…]: builds the programs as they are given to people, into $(target_dir)/release. The
# agent has a profile of its own, which is about size.
release_programs() {
  cargo build --release --locked -p lattice "$@" &&
    cargo build --profile agent --locked -p lattice-agent &&
    install -m 0755 "$(target_dir)/agent/lattice-agent" "$(target_dir)/release/lattice-agent"
}

# The version of the workspace, as Cargo.toml's [workspace.package] states it.
workspace_version() {
  sed -n '/^\[workspace\.package\]/,/^\[/ s/^version *= *"\(.*\)"/\1/p' "$LATTICE_ROOT/Cargo.toml"
}

# engine_answers: does a Docker engine answer where the docker command looks for it?
engine_answers() { have docker && timeout 10 docker info >/dev/null 2>&1; }

# in_docker_group SCRIPT ARG…: membership of a group that was just granted is not in this login session yet.
# Runs the script again inside the group; returns at once where there is nothing to gain by that.
in_docker_group() {
  if [ "$(id -u)" -eq 0 ] || [ -n "${LATTICE_IN_GROUP:-}" ] || ! have sg; then return 0; fi
  if id -nG | tr ' ' '\n' | grep -qx docker; then return 0; fi
  if ! id -nG "$(id -un)" | tr ' ' '\n' | grep -qx docker; then return 0; fi
  local line
  line="$(printf '%q ' env LATTICE_IN_GROUP=1 "$@")"
  exec sg docker -c "$line"
}
