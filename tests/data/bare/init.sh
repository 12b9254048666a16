# Makes the root of a bare host and stays there as its first process (tests/src/bare.rs). Runs in new namespaces; what it writes lies in memory and
# goes with them. $1: a folder for it; $2: what is handed in, seen as /mnt; $3: what hosts share, seen as /srv/copies; $4: name;
# $5: address.
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mkdir -p "$1/root/srv/copies"
mount --bind "$2" "$1/root/mnt"
mount --bind "$3" "$1/root/srv/copies"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
# By this packages see that systemd is there.
mkdir -p run/systemd/system
hostname bare
echo "127.0.0.1 localhost
$5 $4" >etc/hosts
ip link set lo up
# A cable that leads nowhere.
ip link add eth0 type veth peer name wire
ip addr add "$5/24" dev eth0
ip link set wire up
ip link set eth0 up
# In the place of the real ones: apt's own search path begins there.
install -m 0755 "$2/systemctl" "$2/journalctl" "$2/certbot" usr/bin/
# Container images forbid packages by this to start services.
rm -f usr/sbin/policy-rc.d
mkdir etc/stand-in
cp "$2/ca.crt" "$2/ca.key" etc/stand-in/
cat "$2/ca.crt" >>etc/ssl/certs/ca-certificates.crt
# Whoever hears it can come in.
exec chroot . sh -c "echo '{\"event\":\"ready\"}'; exec sleep infinity"
