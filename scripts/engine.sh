#!/usr/bin/env bash
# Sees to it that a Docker engine answers: engine.sh [start|stop|restart|status]   (start is the default)
#
# start   nothing where one answers already; else systemd, else the service script, else dockerd by hand, as in a
#         container without an init system. Its log and pid are in ${XDG_STATE_HOME:-~/.local/state}/lattice/engine.
# stop    stops a dockerd that this script started by hand, and no other. Containers stop with it.
# restart stops and starts the one that this script started, or has systemd restart its own.
# status  says whether an engine answers, and which.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

WAIT=60
DIR="$LATTICE_STATE/engine"
LOG="$DIR/dockerd.log"
PID="$DIR/dockerd.pid"

describe() { docker info --format '{{.ServerVersion}}, {{.Driver}}, cgroup v{{.CgroupVersion}} ({{.CgroupDriver}})'; }

# wait_for SECONDS: until the engine answers; shows that it lives. A dockerd of ours that died ends the wait.
wait_for() {
  local left="$1" at=$SECONDS told=10
  while [ $((SECONDS - at)) -lt "$left" ]; do
    if engine_answers; then
      say "    the engine answers after $((SECONDS - at)) s ($(describe))"
      return 0
    fi
    if [ -n "${2:-}" ] && [ $((SECONDS - at)) -ge 5 ] && ! by_hand_lives; then
      say "    dockerd ended by itself"
      return 1
    fi
    # A terminal gets one line that changes; a log gets a line each ten seconds.
    if [ -t 2 ]; then
      printf '\r    waiting for the engine: %s of %s s ' "$((SECONDS - at))" "$left" >&2
    elif [ $((SECONDS - at)) -ge "$told" ]; then
      say "    waiting for the engine: $((SECONDS - at)) of $left s"
      told=$((told + 10))
    fi
    sleep 0.5
  done
  say "    no engine after $left s"
  return 1
}

# The pid may have gone to another process since; its name tells. Needs no rights, unlike a signal.
by_hand_lives() { [ -s "$PID" ] && [ "$(cat "/proc/$(cat "$PID")/comm" 2>/dev/null)" = dockerd ]; }

# The user's own socket: rights missing is another trouble than no engine, and has another cure.
refused_by_rights() {
  [ "$(id -u)" -ne 0 ] && docker info 2>&1 | grep -qi 'permission denied'
}

start_by_hand() {
  have dockerd || die "Docker's engine is not installed; run: scripts/deps.sh run"
  mkdir -p "$DIR"
  # iptables in one of its two kinds has to work, and which one does depends on the kernel. A container's
  # default is not always right, so the other one is tried for this dockerd alone.
  local path="$PATH"
  if ! as_root iptables -t nat -L -n >/dev/null 2>&1 && have iptables-legacy &&
    as_root iptables-legacy -t nat -L -n >/dev/null 2>&1; then
    mkdir -p "$DIR/bin"
    ln -sf "$(command -v iptables-legacy)" "$DIR/bin/iptables"
    ln -sf "$(command -v ip6tables-legacy)" "$DIR/bin/ip6tables"
    path="$DIR/bin:$PATH"
    say "    iptables of the nft kind does not work here; dockerd gets the legacy kind"
  fi
  say "    starting dockerd by hand; log: $LOG"
  # The pid is written by the process that becomes dockerd; $! would be sudo's or setsid's. What waits for it must not
  # hold our output open: `engine.sh start | tail` would never end.
  # shellcheck disable=SC2016
  as_root env PATH="$path" setsid sh -c 'echo $$ >"$1"; exec dockerd >>"$2" 2>&1 </dev/null' sh "$PID" "$LOG" </dev/null >/dev/null 2>&1 &
  wait_for "$WAIT" by-hand
}

start() {
  if engine_answers; then
    say "    an engine answers already ($(describe))"
    return 0
  fi
  have docker || die "the docker command is not installed; run: scripts/deps.sh run"
  if [ -n "${DOCKER_HOST:-}" ]; then
    die "DOCKER_HOST is $DOCKER_HOST and no engine answers there; start it, or unset DOCKER_HOST"
  fi
  if refused_by_rights; then
    die "an engine runs, but $(id -un) may not use it: run scripts/deps.sh run, then log in again or type: newgrp docker"
  fi
  if [ -d /run/systemd/system ] && have systemctl && systemctl cat docker.service >/dev/null 2>&1; then
    say "    systemctl start docker"
    if as_root timeout "$WAIT" systemctl start docker && wait_for "$WAIT"; then return 0; fi
    warn "systemd could not start Docker; its log: journalctl -u docker"
  elif [ -x /etc/init.d/docker ] && have service; then
    say "    service docker start"
    if as_root timeout 20 service docker start >&2 && wait_for 20; then return 0; fi
    warn "the service script could not start Docker; its log: /var/log/docker.log"
  fi
  if refused_by_rights; then
    die "the engine runs, but $(id -un) may not use it: log in again, or type: newgrp docker"
  fi
  if start_by_hand; then return 0; fi
  say "    the last lines of $LOG:"
  as_root tail -n 20 "$LOG" >&2 || true
  die "Docker's engine does not start on this machine; the log above says why"
}

stop() {
  by_hand_lives || die "no dockerd of this script's runs (what systemd started, systemd stops)"
  local pid at=$SECONDS
  pid="$(cat "$PID")"
  # sh has kill built in; a small system has no program of that name.
  # shellcheck disable=SC2016
  as_root sh -c 'kill -TERM "$1"' sh "$pid"
  while [ $((SECONDS - at)) -lt "$WAIT" ]; do
    if ! by_hand_lives; then
      rm -f "$PID"
      say "    stopped after $((SECONDS - at)) s"
      return 0
    fi
    sleep 0.2
  done
  die "dockerd (pid $pid) did not stop within $WAIT s; its log: $LOG"
}

case "${1:-start}" in
  start) start ;;
  stop) stop ;;
  restart)
    if by_hand_lives; then
      stop
      start_by_hand || die "dockerd did not come back; its log: $LOG"
    elif [ -d /run/systemd/system ]; then
      as_root systemctl restart docker
      wait_for "$WAIT" || die "Docker did not come back; its log: journalctl -u docker"
    else
      die "nothing to restart: no dockerd of this script's runs, and no systemd"
    fi
    ;;
  status)
    if engine_answers; then say "    an engine answers ($(describe))"; else say "    no engine answers"; exit 1; fi
    ;;
  *) die "usage: engine.sh [start|stop|restart|status]" ;;
esac
