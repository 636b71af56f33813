#!/usr/bin/env bash
# Builds the container images that tests and examples run here, and imports them: images.sh [--force]
#
#   lattice-test/busybox:1    a static busybox with its applets and /www/index.html
#   lattice-test/postgres:15  PostgreSQL 15 of Debian 12 with an entrypoint in the manner of the official image
#
# Nothing is pulled from an image registry: the contents are Debian packages, so that tests run wherever apt does.
# An image is named by the hash of what it is made from (this file and tests/images/): an engine that has it is left
# alone, and the file systems are kept in ${XDG_CACHE_HOME:-~/.cache}/lattice/images for the next engine.
# Rejected: a real debootstrap (three times as slow: it configures every package); pulling (needs a registry).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

SOURCES="$LATTICE_ROOT/tests/images"
SUITE=bookworm
KEY="$(cd "$LATTICE_ROOT" && find scripts/images.sh tests/images -type f -print0 | LC_ALL=C sort -z |
  xargs -0 sha256sum | sha256sum | cut -c1-12)"
CACHE="$LATTICE_CACHE/images/$KEY"
LABEL=lattice.test.images

current() { [ "$(docker image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$1" 2>/dev/null)" = "$KEY" ]; }

# load TAG ROOT.tar CONFIG: a file system and its configuration become an image. An archive for `docker load` and not
# `docker import`, since the latter knows no STOPSIGNAL and makes another id each time.
load() {
  local tag="$1" root="$2" config="$3" work digest
  work="$(mktemp -d)"
  digest="$(sha256sum "$root" | cut -d' ' -f1)"
  ln -s "$root" "$work/layer.tar"
  printf '{"architecture":"%s","os":"linux","created":"2024-01-01T00:00:00Z","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"2024-01-01T00:00:00Z","created_by":"scripts/images.sh"}]}' \
    "$(docker version --format '{{.Server.Arch}}')" "$config" "$digest" >"$work/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$tag" >"$work/manifest.json"
  tar -C "$work" --dereference -cf - config.json manifest.json layer.tar | docker load -q >/dev/null
  rm -rf "$work"
  say "    loaded $tag ($(du -h "$root" | cut -f1), $SECONDS s)"
}

busybox_root() {
  local work
  work="$(mktemp -d)"
  # Unpacked here and not installed: on Debian busybox-static would drive the machine's own busybox out.
  (cd "$work" && apt-get download -qq busybox-static >/dev/null 2>&1 && dpkg-deb -x busybox-static_*.deb deb) ||
    die "busybox-static could not be downloaded; run 'apt-get update' and try again"
  mkdir -p "$work/root"/{bin,etc,tmp,root,www,proc,sys,dev,var/run}
  cp "$(find "$work/deb" -type f -path '*/bin/busybox')" "$work/root/bin/busybox"
  local applet
  for applet in $("$work/root/bin/busybox" --list); do
    if [ "$applet" != busybox ]; then ln -s busybox "$work/root/bin/$applet"; fi
  done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$work/root/etc/passwd"
  echo 'root:x:0:' >"$work/root/etc/group"
  echo 'hello from lattice-test/busybox' >"$work/root/www/index.html"
  chmod 1777 "$work/root/tmp"
  tar --owner=0 --group=0 --numeric-owner -C "$work/root" -cf "$1.part" .
  mv "$1.part" "$1"
  rm -rf "$work"
}

postgres_root() {
  have mmdebstrap || die "mmdebstrap is missing; run: scripts/deps.sh test"
  # This machine's own mirror where it is a Debian of the same age, else the default one.
  local mirror
  # shellcheck disable=SC2016
  mirror="$(apt-get indextargets --format '$(SITE)' "Codename: $SUITE" 'Created-By: Packages' 2>/dev/null | head -n 1 || true)"
  # LLVM (for JIT alone), locales, documentation, headers and all of perl but its core are not unpacked.
  local without=(/usr/share/doc /usr/share/man /usr/share/locale /usr/share/i18n /usr/share/perl
    '/usr/lib/*/perl/5*' '/usr/lib/*/libLLVM-*' '/usr/lib/*/libz3*' '/usr/lib/postgresql/15/lib/bitcode'
    '/usr/lib/postgresql/15/lib/llvmjit*' /usr/lib/systemd /lib/systemd /usr/share/zsh /usr/share/bash-completion)
  local path options=()
  for path in "${without[@]}"; do options+=("--dpkgopt=path-exclude=$path/*" "--dpkgopt=path-exclude=$path"); done
  if [ -d /usr/share/mmdebstrap/hooks/merged-usr ]; then
    options+=(--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr)
  fi
  local log="$1.log"
  say "    unpacking PostgreSQL 15 from Debian packages; about a minute; log: $log"
  # shellcheck disable=SC2016
  as_root mmdebstrap --mode=root --variant=extract --format=tar \
    --include=base-files,base-passwd,bash,coreutils,dash,findutils,grep,libc-bin,perl-base,postgresql-15,sed,tzdata,util-linux \
    "${options[@]}" --extract-hook="sh '$SOURCES/postgres/assemble.sh' \"\$1\"" \
    "$SUITE" - ${mirror:+"$mirror"} 2>"$log" >"$1.part" || {
    tail -n 20 "$log" >&2
    die "PostgreSQL's image could not be made; the log above says why"
  }
  mv "$1.part" "$1"
}

if ! engine_answers; then die "no Docker engine answers; run: scripts/engine.sh"; fi
if [ "${1:-}" != --force ] && current lattice-test/busybox:1 && current lattice-test/postgres:15; then
  say "    the test images are there ($KEY)"
  exit 0
fi
have apt-get || die "the test images are made of Debian packages and this machine has no apt-get"
mkdir -p "$CACHE"

[ -s "$CACHE/busybox.tar" ] || busybox_root "$CACHE/busybox.tar"
load lattice-test/busybox:1 "$CACHE/busybox.tar" \
  '{"Env":["PATH=/bin"],"Cmd":["sh"],"Labels":{"'"$LABEL"'":"'"$KEY"'"}}'

[ -s "$CACHE/postgres.tar" ] || postgres_root "$CACHE/postgres.tar"
load lattice-test/postgres:15 "$CACHE/postgres.tar" \
  '{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","LANG=C.UTF-8","PGDATA=/var/lib/postgresql/data"],
    "Entrypoint":["docker-entrypoint.sh"],"Cmd":["postgres"],"ExposedPorts":{"5432/tcp":{}},"StopSignal":"SIGINT",
    "Labels":{"'"$LABEL"'":"'"$KEY"'"}}'

# What earlier versions left is of no use to anybody.
docker image prune --force --filter "label=$LABEL" >/dev/null
find "$LATTICE_CACHE/images" -mindepth 1 -maxdepth 1 ! -name "$KEY" -exec rm -rf {} +
