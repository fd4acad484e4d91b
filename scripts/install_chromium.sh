#!/bin/sh
# Install Chromium, and the font of the pictures, where one is missing. Debian and its
# descendants only. The browser tests and scripts.screenshots need it.
set -eu
command -v chromium >/dev/null 2>&1 && exit 0
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	chromium fonts-inter
