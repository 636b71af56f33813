#!/usr/bin/env bash
# make dist: the release programs as dist/lattice-VERSION-TARGET.tar.gz with its .sha256.
# The same commit on the same toolchain gives the same archive: order, owner and times are fixed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$LATTICE_ROOT"

section "what this machine needs"
scripts/deps.sh build
hash -r
section "web console"
scripts/console.sh build
section "release build (some minutes the first time)"
release_programs "$@"
section "archive"
name="lattice-$(workspace_version)-$(rustc -vV | sed -n 's/^host: //p')"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name" dist
for program in lattice lattice-agent; do
  install -m 0755 "$(target_dir)/release/$program" "$work/$name/$program"
  # The profile strips already; this holds where somebody's own configuration says otherwise.
  if have strip; then strip "$work/$name/$program"; fi
done
install -m 0644 README.md LICENSE CHANGELOG.md "$work/$name/"
at="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$at" -cf - "$name" |
  gzip -n -9 >"dist/$name.tar.gz"
(cd dist && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
say "    dist/$name.tar.gz ($(du -h "dist/$name.tar.gz" | cut -f1))"
section_end
