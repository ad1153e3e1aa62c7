#!/bin/sh
set -e
# $1 is "remove" (deb) or 0 (rpm) when the package goes, "upgrade" or 1 when another version follows.
case "$1" in
remove | 0)
  if [ -d /run/systemd/system ]; then
    systemctl disable --now fanfare.service || true
    systemctl stop 'fanfare@*.service' || true
  fi
  ;;
esac
