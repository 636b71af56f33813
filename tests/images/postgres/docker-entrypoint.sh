#!/bin/bash
# Starts PostgreSQL in the manner of the official image, as far as tests and examples use it:
# POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE (one is required), POSTGRES_USER, POSTGRES_DB, PGDATA,
# /docker-entrypoint-initdb.d/*.sql. Any other command is run as it is.
#
# Needs no capability beyond CHOWN, DAC_OVERRIDE, FOWNER, SETUID and SETGID, and works with no-new-privileges.
# Unlike the official one it initialises beside the data and moves PG_VERSION in last: a kill in the middle of the
# first start leaves nothing that looks like a database.
set -euo pipefail

case "${1:-postgres}" in
  postgres | -*) ;;
  *) exec "$@" ;;
esac
case "${1:-}" in "" | -*) set -- postgres "$@" ;; esac

export PGDATA="${PGDATA:-/var/lib/postgresql/data}"

if [ "$(id -u)" -eq 0 ]; then
  mkdir -p "$PGDATA" /run/postgresql
  chmod 0700 "$PGDATA"
  chown -R postgres:postgres "$PGDATA" /run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --clear-groups -- "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user="${POSTGRES_USER:-postgres}"
  database="${POSTGRES_DB:-$user}"
  password="${POSTGRES_PASSWORD:-}"
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then password="$(cat "$POSTGRES_PASSWORD_FILE")"; fi
  if [ -z "$password" ]; then
    echo 'error: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE: a database without a password is not started' >&2
    exit 1
  fi
  new="$PGDATA/.new"
  rm -rf "$new"
  initdb -D "$new" --username="$user" --pwfile=<(printf '%s' "$password") \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8
  printf '\nhost all all all scram-sha-256\n' >>"$new/pg_hba.conf"
  # A server without a network for what has to be there before the first client is let in.
  pg_ctl -D "$new" -o "-c listen_addresses='' -c unix_socket_directories=/tmp" -w start
  if [ "$database" != postgres ]; then
    psql -h /tmp -v ON_ERROR_STOP=1 -U "$user" -d postgres -v name="$database" <<<'CREATE DATABASE :"name";'
  fi
  for file in /docker-entrypoint-initdb.d/*.sql; do
    if [ -f "$file" ]; then psql -h /tmp -v ON_ERROR_STOP=1 -U "$user" -d "$database" -f "$file"; fi
  done
  pg_ctl -D "$new" -m fast -w stop
  # What an earlier, killed start had already moved is replaced.
  find "$PGDATA" -mindepth 1 -maxdepth 1 ! -name .new -exec rm -rf {} +
  find "$new" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
  mv "$new/PG_VERSION" "$PGDATA/PG_VERSION"
  rmdir "$new"
  echo 'PostgreSQL init process complete; ready for start up.'
fi

unset POSTGRES_PASSWORD POSTGRES_PASSWORD_FILE
exec "$@"
