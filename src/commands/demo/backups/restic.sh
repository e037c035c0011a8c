# restic, sourced by back-up.sh. It has to show its client certificate.
restic() { command restic --cacert ca.pem --tls-client-cert client.pem --no-cache "$@"; }

back_up() {
  export RESTIC_REPOSITORY RESTIC_PASSWORD
  say "restic backup $*"
  restic --quiet init
  restic backup --json --one-file-system --host "$HOST" \
    --exclude='/tmp/*' --exclude='/var/tmp/*' --exclude=/var/cache --exclude=/root/.cache "$@" >backup.json
  restic snapshots --json >snapshots.json
  session=$(field snapshot_id backup.json)
  time=$(field time snapshots.json)
  bytes=$(field total_bytes_processed backup.json)
}
