#!/bin/sh
# Turns freshly unpacked Debian packages into the root of lattice-test/postgres:15: assemble.sh ROOT
#
# The packages are only unpacked, never configured: no maintainer script runs, which makes this three times as fast
# as a real installation. What those scripts would have done, as far as PostgreSQL needs it, is done here.
set -eu
root="$1"
here="$(cd "$(dirname "$0")" && pwd)"

cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
# The ids of the official image, so that a volume moves between the two.
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>"$root/etc/passwd"
echo 'postgres:x:999:' >>"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"

# The plain programs instead of Debian's wrapper, which wants all of perl.
for program in "$root"/usr/lib/postgresql/15/bin/*; do
  ln -sf "../lib/postgresql/15/bin/${program##*/}" "$root/usr/bin/${program##*/}"
done
sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" "$root/usr/share/postgresql/15/postgresql.conf.sample"

rm -rf "$root/var/run"
ln -s ../run "$root/var/run"
mkdir -p "$root/var/lib/postgresql/data" "$root/run/postgresql" "$root/docker-entrypoint-initdb.d" "$root/tmp"
chown -R 999:999 "$root/var/lib/postgresql" "$root/run/postgresql"
chmod 1777 "$root/var/lib/postgresql/data" "$root/tmp"
chmod 2777 "$root/run/postgresql"
install -D -m 0755 "$here/docker-entrypoint.sh" "$root/usr/local/bin/docker-entrypoint.sh"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/etc/resolv.conf
