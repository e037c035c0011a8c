# The agent of a `.run` package, sourced by back-up.sh: the host's side. A session is named by its time.
put() { curl --silent --show-error --fail --output /dev/null --cacert ca.pem --user "$AGENT_ACCOUNT:$AGENT_TOKEN" "$@"; }

# GNU tar says by status 1 that a file has changed meanwhile.
archive() {
  tar --create --file=- --verbose --index-file="$PWD/entries" --one-file-system --format=posix --numeric-owner --sparse \
    --xattrs --xattrs-include='*' --acls --exclude='./tmp/*' --exclude='./var/tmp/*' --exclude=./var/cache --exclude=./root/.cache \
    --directory=/ "$@" || echo $? >status
}

back_up() {
  version=1
  session=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  time=$session
  say "session $session of $*"
  put --request MKCOL "$AGENT_SERVER/$session/"
  echo 0 >status
  mkfifo pipe
  sha256sum <pipe >sum &
  archive $(for path; do echo ".$path"; done) | gzip -1 | tee pipe | put --upload-file - "$AGENT_SERVER/$session/files.tar.gz"
  wait
  [ "$(cat status)" -le 1 ]
  bytes=$(df --block-size=1 --output=used "$@" | awk '{ sum += $1 } END { printf "%.0f", sum }')
  printf 'TIME=%s\nSHA256=%s\nENTRIES=%s\n' "$time" "$(cut -d ' ' -f 1 sum)" "$(wc -l <entries)" >description
  put --upload-file description "$AGENT_SERVER/$session/description"
}
