# Data of the protected host, below $root/srv: what a restore may get wrong. Always the same.
cd $root/srv
mkdir -p mail/{a..j} web/img db home/{anna,bert} odd
gawk 'BEGIN {
  srand(1)
  for (i = 0; i < 40000; i++) text[i % 997] = text[i % 997] sprintf("%x", rand() * 4294967296)
  for (n = 0; n < 2500; n++) {
    file = sprintf("mail/%c/%04d", 97 + n % 10, n)
    lines = 1 + int(rand() * 40)
    for (l = 0; l < lines; l++) print n, l, text[int(rand() * 997)] > file
    close(file)
  }
  BINMODE = 3
  for (n = 0; n < 20; n++) {
    file = sprintf("web/img/%02d.bin", n)
    for (l = 0; l < 4000; l++) printf "%c%c%s", int(rand() * 128), int(rand() * 128), text[int(rand() * 997)] > file
    close(file)
  }
}'
truncate -s 64M db/sparse
echo beginning | dd of=db/sparse conv=notrunc status=none
echo middle | dd of=db/sparse bs=1M seek=33 conv=notrunc status=none
cp -al mail/a home/anna/links
ln mail/b/0001 home/bert/'also mail'
ln -s ../mail/a home/anna/mail
ln -s /nowhere/at/all odd/dangling
touch odd/empty odd/'with blanks' odd/$'with\nnewline' odd/$'latin1-\xe9' odd/-dash
mkfifo odd/pipe
mknod odd/null c 1 3
mkdir odd/deep && (cd odd/deep && for _ in {1..20}; do mkdir -p down && cd down; done && echo bottom >bottom)
chown -R 1001:1001 home/anna
chown -R 1002:1002 home/bert
chown -h 33:33 -R web
chown 8:8 mail mail/*
chmod 2775 web && chmod 1777 odd && chmod 0700 home/anna && chmod 0440 db/sparse
cp /usr/bin/true odd/setuid && chmod 4755 odd/setuid
cp /usr/bin/true odd/capable && setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 odd/capable
setfattr -n user.origin -v 'the demonstration' mail/c/* web/img
setfattr -n user.binary -v 0x00ff00ff mail/d/0003
setfacl -R -m u:1001:rX,g:33:r mail/e
setfacl -d -m u:1002:rwX web
touch -d '2001-02-03T04:05:06.789Z' mail/f/* odd
cd /
