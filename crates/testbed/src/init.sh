# The first process of a machine: it makes what the machine stands in, says that it is there, and reaps what loses its
# parent. All processes of the machine end with it.
# init.sh FOLDER NAME DISK TIE: DISK is an image file or empty; tied, it ends with its standard input.
set -eu
folder="$1" name="$2" disk="$3" tie="$4"
exec 3<&0 </dev/null
# This /proc is still the one outside: it tells the number by which others know this process, and when it began.
read -r line </proc/self/stat
mount -t proc proc /proc
printf %s "$name" >/proc/sys/kernel/hostname
# Empty, so that dockerd starts a containerd of its own and never uses the host's.
if [ -d /run/containerd ]; then mount -t tmpfs none /run/containerd; fi
mkdir -p "$folder/disk"
if [ -n "$disk" ]; then mount -o loop,noatime "$disk" "$folder/disk"; fi
ip link set lo up
printf '%s\n' "$line" >"$folder/run/init.new"
mv "$folder/run/init.new" "$folder/run/init"
if [ "$tie" = tied ]; then
  cat <&3 >/dev/null &
  wait $!
else
  exec 3<&-
  while :; do
    sleep 100000 &
    wait $!
  done
fi
