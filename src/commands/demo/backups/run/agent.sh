#!/bin/bash
# An agent that restores: `agent restore --session TIME --to DIR`. AGENT_SERVER has the sessions, AGENT_ACCOUNT and AGENT_TOKEN
# open them. Its database, a list of all that it has restored, lies beside it, on the disk that it restores to.
set -eu -o pipefail
fail() { echo "agent: $*" >&2; exit 1; }
[[ $# -eq 5 && $1 == restore && $2 == --session && $4 == --to ]] || fail "usage: agent restore --session TIME --to DIR"
session=$3 to=$5
database=$(cd "$(dirname "$0")/.." && pwd)/database
[[ -s $database/installed ]] || fail "it is not installed: there is no database in $database"
case $database in "$to"/*) ;; *) fail "the database is in $database, and not on the disk that is restored" ;; esac
fetch() { curl --silent --show-error --fail --user "$AGENT_ACCOUNT:$AGENT_TOKEN" "$AGENT_SERVER/$session/$1"; }

fetch description >"$database/description"
. "$database/description"
# The server could have another session under this name.
[[ $TIME == "$session" ]] || fail "session $session is of $TIME on the server"
rm -f "$database/pipe"
mkfifo "$database/pipe"
sha256sum <"$database/pipe" >"$database/sum" &
fetch files.tar.gz | tee "$database/pipe" |
  tar --extract --gzip --verbose --directory "$to" --numeric-owner --preserve-permissions --same-owner --xattrs --xattrs-include='*' --acls |
  awk -v total="$ENTRIES" -v database="$database/restored" '
    { print >database; now = int(NR * 100 / total) }
    now > last { last = now; print now " %"; fflush() }'
wait
[[ $(cut -d ' ' -f 1 "$database/sum") == "$SHA256" ]] || fail "session $session is not what the server says it is"
[[ $(wc -l <"$database/restored") -eq $ENTRIES ]] || fail "session $session has other files than the server says"
echo "agent: $ENTRIES files and folders restored"
