#!/bin/sh
set -e
getent group fanfare >/dev/null || groupadd --system fanfare
getent passwd fanfare >/dev/null ||
  useradd --system --gid fanfare --home-dir /var/lib/fanfare --shell /usr/sbin/nologin --comment Fanfare fanfare
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # An upgrade restarts the services that run.
  systemctl try-restart fanfare.service 'fanfare@*.service' || true
fi
