#!/bin/sh
# What makeself's package starts after it has unpacked itself: `--prefix DIR` says where the agent goes.
set -eu
[ "$1" = --prefix ]
prefix=$2
mkdir -p "$prefix/bin" "$prefix/database"
cp agent "$prefix/bin/agent"
chmod 0755 "$prefix/bin/agent"
date -u +%Y-%m-%dT%H:%M:%SZ >"$prefix/database/installed"
