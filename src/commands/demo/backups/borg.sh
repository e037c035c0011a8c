# BorgBackup, sourced by back-up.sh. What it keeps beside the repository must not be in the backup, nor what Python compiles
# of it: the files were looked at before.
back_up() {
  export PYTHONDONTWRITEBYTECODE=1
  export BORG_REPO BORG_PASSPHRASE BORG_BASE_DIR="$PWD/borg"
  export BORG_RSH="ssh -i $PWD/ssh-key -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=$PWD/known_hosts"
  say "borg create ::first $*"
  borg init --encryption=repokey
  time=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  borg create --json --one-file-system --numeric-ids --compression zstd,1 \
    --exclude='sh:tmp/*' --exclude='sh:var/tmp/*' --exclude=pp:var/cache --exclude=pp:root/.cache ::first "$@" >backup.json
  session=first
  bytes=$(sed -n 's/.*"original_size": *\([0-9]*\).*/\1/p' backup.json | head -n 1)
}
