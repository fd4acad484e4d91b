#!/bin/sh
# Install the programs that tests need and pip cannot install: Chromium with the font of
# the pictures, PostgreSQL, PgBouncer, and Redis. On Debian and its descendants, as root; elsewhere
# it says what is missing, and the tests that need it are skipped.
set -eu
missing=
command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-inter"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
# Debian keeps the programs of a PostgreSQL server out of the PATH. The tests start their
# own server with them.
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
	command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v pgbouncer >/dev/null 2>&1 || test -x /usr/sbin/pgbouncer ||
	missing="$missing pgbouncer"
test -n "$missing" || exit 0
if test "$(id -u)" != 0 || ! command -v apt-get >/dev/null 2>&1; then
	echo "tests that need these programs are skipped; install them:$missing"
	exit 0
fi
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	$missing >/dev/null
