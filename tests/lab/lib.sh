# shellcheck shell=bash
# Real Ganeti nodes in systemd-nspawn containers, for tests. Source this file.
#
# A lab is a few nodes on a bridge of their own, without a network beyond it. A node is
# named LAB/nodeK, its host name is nodeK.LAB.example and its address 198.51.100.(10+K);
# the cluster is cluster.LAB.example, 198.51.100.2.
#
#   lab_claim LAB                  take the name; fails when the lab exists
#   lab_up LAB SUITE NODES         make and boot the nodes
#   lab_init LAB NODES             make them a cluster with the fake hypervisor
#   lab_remove LAB                 stop the nodes and delete everything of the lab
#   node_exec NODE CMD...          run a command, with our stdin, stdout and stderr
#   node_push NODE SRC DST         copy a file or directory into a node, owned by root
#   node_pull NODE SRC DST         copy a file or directory out of it
#   node_stop, node_start, node_reboot NODE     as an administrator would
#   node_crash NODE                as a power failure would
#
# A caller claims the lab first, then sets a trap on EXIT, INT and TERM that removes it,
# then brings it up: so it never removes a lab that is not its own. Every function fails
# with a message; every wait polls for the thing and has a deadline.
#
# Needs root, the packages of install-requirements, and cgroup v2 (also the hybrid layout).

set -uo pipefail
shopt -s inherit_errexit

LAB_CACHE=${LAB_CACHE:-/var/cache/ganeti-hookd-lab}
LAB_STATE=${LAB_STATE:-/var/lib/ganeti-hookd-lab}

# What nspawn's filter of system calls lets pass besides its own list: what exact hold takes.
export LAB_SYSTEM_CALLS=${LAB_SYSTEM_CALLS-bpf perf_event_open}

# What a base is made of. The nodes have no network, so whatever a test installs must find
# its dependencies here.
LAB_PACKAGES=(
    ganeti ganeti-os-noop openssh-server iproute2
    curl gawk jq procps psmisc python3 socat sqlite3 strace
)

lab_say() { printf 'lab: %s\n' "$*" >&2; }
lab_fail() { lab_say "$@"; return 1; }

# lab_wait SECONDS WHAT CMD...: polls until CMD succeeds.
lab_wait() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        ((SECONDS < deadline)) || lab_fail "waited in vain for $what" || return
        sleep 0.1
    done
}

# ---- cgroups ---------------------------------------------------------------------------

# The unified hierarchy's mount point.
lab_cgroup_root() {
    findmnt --first-only --noheadings --types cgroup2 --output TARGET ||
        lab_fail "no cgroup v2 file system is mounted"
}

# lab_confined NAME CMD...: runs CMD, by exec, in a cgroup of its own. Containers that
# share one get each other's units.
lab_confined() {
    local root name=$1
    shift
    root=$(lab_cgroup_root) || return
    mkdir -p "$root/$name" || return
    echo "$BASHPID" >"$root/$name/cgroup.procs" || return
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec "$@"
}

# Kills whatever is left in a cgroup and removes it, in every hierarchy.
lab_discard_cgroup() {
    local root name=$1 tree
    root=$(lab_cgroup_root) || return
    if [ -d "$root/$name" ]; then
        lab_wait 20 "the processes of $name to end" lab_kill_cgroup "$root/$name" || return
    fi
    for tree in "$root" /sys/fs/cgroup/systemd; do
        [ ! -d "$tree/$name" ] || find "$tree/$name" -depth -type d -exec rmdir {} +
    done
}

lab_kill_cgroup() {
    local pids
    pids=$(find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null) || true
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086 # one word a process
    kill -KILL $pids 2>/dev/null
    return 1
}

# ---- bases -----------------------------------------------------------------------------

# lab_base SUITE: prints the path of a finished base, and makes it when there is none.
lab_base() {
    local suite=$1 id base
    id=$(printf '%s\n' "$suite" "${LAB_PACKAGES[@]}" "$(declare -f lab_make_base lab_furnish_base)" |
        sha256sum | cut -c1-12) || return
    base=$LAB_CACHE/$suite-$id
    mkdir -p "$LAB_CACHE" || return
    (
        flock 9 || return
        [ -d "$base" ] || lab_make_base "$suite" "$base"
    ) 9>"$LAB_CACHE/.$suite.lock" || return
    echo "$base"
}

# The mirror that this host itself installs from.
lab_mirror() {
    local release
    # shellcheck source=/dev/null
    release=$(. /etc/os-release && echo "$VERSION_CODENAME") || return
    # shellcheck disable=SC2016 # the names are apt's
    apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$release" '$1 == release && $2 == "main" { print $3; found = 1; exit }
            END { exit !found }' ||
        lab_fail "apt on this host has no mirror of $release; set LAB_MIRROR"
}

lab_make_base() {
    local suite=$1 base=$2 new mirror proxy='' log
    mirror=${LAB_MIRROR:-$(lab_mirror)} || return
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || local -x http_proxy=$proxy
    new=$(mktemp -d "$LAB_CACHE/.new-XXXXXX") && chmod 755 "$new" || return
    log=$LAB_CACHE/$suite.log
    lab_say "making the base $base (log: $log)"
    if debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,libpam-systemd \
        "$suite" "$new" "$mirror" >"$log" 2>&1 &&
        lab_furnish_base "$new" >>"$log" 2>&1; then
        mv -T "$new" "$base"
    else
        tail -n 20 "$log" >&2
        rm -rf --one-file-system "$new"
        lab_fail "the base of $suite could not be made"
    fi
}

# Installs Ganeti into a new base and prepares what all nodes have in common.
lab_furnish_base() {
    local root=$1 machine=ganeti-lab-base-$BASHPID code=0
    # Nothing starts while packages are installed.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" &&
        chmod 755 "$root/usr/sbin/policy-rc.d" || return
    (lab_confined "$machine" systemd-nspawn --quiet --directory="$root" \
        --machine="$machine" --register=no --keep-unit --resolv-conf=off \
        --bind-ro=/etc/resolv.conf ${http_proxy:+"--setenv=http_proxy=$http_proxy"} \
        --setenv=DEBIAN_FRONTEND=noninteractive bash -ec '
            apt-get update
            apt-get install -y --no-install-recommends "$@"
            apt-get clean
            find /var/lib/apt/lists -type f -delete
            # cron would run ganeti-watcher, whose jobs no test asked for.
            systemctl mask console-getty.service getty.target cron.service \
                apt-daily.timer apt-daily-upgrade.timer
            # All nodes share a key (not RSA: gnt-cluster init replaces that one).
            install -d -m 700 /root/.ssh
            ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519
            cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
            printf "%s\n" "StrictHostKeyChecking no" "UserKnownHostsFile /dev/null" \
                "LogLevel ERROR" >/root/.ssh/config
            # Job processes take no notice of SIGTERM: do not wait long for them.
            mkdir -p /etc/systemd/system.conf.d
            printf "%s\n" "[Manager]" "DefaultTimeoutStopSec=10s" >/etc/systemd/system.conf.d/lab.conf
            mkdir -p /etc/ganeti /srv/ganeti/file-storage
            echo /srv/ganeti/file-storage >/etc/ganeti/file-storage-paths
        ' bash "${LAB_PACKAGES[@]}" </dev/null) || code=$?
    lab_discard_cgroup "$machine" && ((code == 0)) || return
    rm -f "$root/usr/sbin/policy-rc.d"
    : >"$root/etc/resolv.conf"
    cat >"$root/etc/systemd/system/lab-address.service" <<'UNIT' &&
[Unit]
Description=Address of this node on the lab's bridge
Wants=network.target
Before=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/lab-address
ExecStart=ip address add ${ADDRESS}/24 dev host0
ExecStart=ip link set host0 up

[Install]
WantedBy=multi-user.target
UNIT
        ln -s /etc/systemd/system/lab-address.service \
            "$root/etc/systemd/system/multi-user.target.wants/"
}

# ---- labs ------------------------------------------------------------------------------

lab_claim() {
    [[ $1 =~ ^[a-z][a-z0-9-]{0,30}$ ]] ||
        lab_fail "$1: a lab's name is lower-case letters, digits and '-'" || return
    mkdir -p "$LAB_STATE" || return
    mkdir "$LAB_STATE/$1" 2>/dev/null || lab_fail "the lab $1 exists; 'cluster down $1' removes it"
}

lab_exists() {
    [ -d "$LAB_STATE/$1" ] || lab_fail "there is no lab $1"
}

# The nodes of a lab, as LAB/nodeK.
lab_nodes() {
    local node
    for node in "$LAB_STATE/$1"/node*; do
        [ ! -d "$node" ] || echo "$1/${node##*/}"
    done
}

# An interface's name has 15 characters at most.
lab_bridge() {
    printf 'lab%.8s' "$(printf '%s' "$1" | sha256sum)"
}

lab_up() {
    local lab=$1 suite=$2 count=$3 base bridge k
    base=$(lab_base "$suite") || return
    bridge=$(lab_bridge "$lab")
    ip link add "$bridge" type bridge && ip link set "$bridge" up || return
    for ((k = 1; k <= count; k++)); do
        node_make "$lab/node$k" "$base" "$count" || return
        node_spawn "$lab/node$k" || return
    done
    for ((k = 1; k <= count; k++)); do
        node_wait_up "$lab/node$k" || return
    done
}

lab_init() {
    local lab=$1 count=$2 k
    node_exec "$lab/node1" gnt-cluster init --enabled-hypervisors=fake \
        --enabled-disk-templates=file,diskless --file-storage-dir=/srv/ganeti/file-storage \
        --master-netdev=host0 --no-etc-hosts --no-ssh-init \
        --nic-parameters=mode=routed,link=main -s 198.51.100.11 "cluster.$lab.example" </dev/null ||
        return
    for ((k = 2; k <= count; k++)); do
        node_exec "$lab/node1" gnt-node add --no-ssh-key-check "node$k.$lab.example" </dev/null ||
            return
    done
}

lab_remove() {
    local lab=$1 node bridge
    lab_exists "$lab" || return
    for node in $(lab_nodes "$lab"); do
        lab_discard_cgroup "$(node_machine "$node")" || return
        node_unmount "$node" || return
    done
    bridge=$(lab_bridge "$lab")
    [ ! -e "/sys/class/net/$bridge" ] || ip link delete "$bridge" || return
    rm -rf --one-file-system "${LAB_STATE:?}/${lab:?}"
}

# ---- nodes -----------------------------------------------------------------------------

node_machine() { echo "ganeti-lab-${1/\//-}"; }
node_directory() { echo "$LAB_STATE/$1"; }

# node_make NODE BASE COUNT: the node's file system, in a lab of COUNT nodes.
node_make() {
    local node=$1 base=$2 count=$3 lab=${1%/*} name=${1#*/} directory root k
    directory=$(node_directory "$node")
    root=$directory/root
    mkdir -p "$root" "$directory/upper" "$directory/work" && echo "$base" >"$directory/base" || return
    find "$base" -mindepth 1 -maxdepth 1 ! -name usr -exec cp -a --reflink=auto -t "$root" {} + ||
        return
    mkdir "$root/usr" && node_mount "$node" || return
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    echo "$name.$lab.example" >"$root/etc/hostname"
    echo "ADDRESS=198.51.100.$((10 + ${name#node}))" >"$root/etc/lab-address"
    {
        echo "127.0.0.1 localhost"
        echo "198.51.100.2 cluster.$lab.example"
        for ((k = 1; k <= count; k++)); do
            echo "198.51.100.$((10 + k)) node$k.$lab.example node$k"
        done
    } >"$root/etc/hosts"
}

# The node's /usr is an overlay over the base's; a copy where that cannot be mounted.
node_mount() {
    local directory base root
    directory=$(node_directory "$1")
    root=$directory/root
    [ -f "$directory/copied" ] || mountpoint -q "$root/usr" && return
    base=$(<"$directory/base")
    mount -t overlay "lab-${1/\//-}" "$root/usr" \
        -o "lowerdir=$base/usr,upperdir=$directory/upper,workdir=$directory/work" 2>/dev/null ||
        { cp -a --reflink=auto -T "$base/usr" "$root/usr" && : >"$directory/copied"; }
}

node_unmount() {
    local usr
    usr=$(node_directory "$1")/root/usr
    ! mountpoint -q "$usr" || umount "$usr"
}

# The process id, outside, of the node's init; fails when the node is down.
node_leader() {
    local root pid
    root=$(lab_cgroup_root)/$(node_machine "$1")/payload || return
    # shellcheck disable=SC2013 # one word a line
    for pid in $(cat "$root/cgroup.procs" "$root/init.scope/cgroup.procs" 2>/dev/null); do
        if grep -q '^NSpid:.*[[:space:]]1$' "/proc/$pid/status" 2>/dev/null; then
            echo "$pid"
            return
        fi
    done
    return 1
}

# Starts the container and does not wait for it.
node_spawn() {
    local node=$1
    node_mount "$node" || return
    # shellcheck disable=SC2016 # the new shell expands it
    setsid --fork bash -c '. "$1" && node_run "$2"' bash "${BASH_SOURCE[0]}" "$node" \
        </dev/null >>"$(node_directory "$node")/console.log" 2>&1
}

# Runs the container until it is switched off; a container that reboots exits with 133.
node_run() {
    local node=$1 lab=${1%/*} name=${1#*/} code=133
    while ((code == 133)); do
        code=0
        node_unplug "$node"
        (lab_confined "$(node_machine "$node")" systemd-nspawn --quiet \
            --machine="$(node_machine "$node")" --register=no --keep-unit --link-journal=no \
            --resolv-conf=off --timezone=off --boot \
            --directory="$(node_directory "$node")/root" --hostname="$name.$lab.example" \
            --network-bridge="$(lab_bridge "$lab")" --console=pipe \
            --system-call-filter="$LAB_SYSTEM_CALLS") || code=$?
    done
}

# The kernel takes its time to delete the interface of a container that ended, and the next
# one wants the same name.
node_unplug() {
    local interface
    interface=$(ip -oneline link show dev "vb-$(node_machine "$1")" 2>/dev/null | awk -F '[ @:]+' '{ print $2 }') ||
        return 0
    ip link delete "$interface" 2>/dev/null || true
}

# Whether init has started everything; failed units are not our business.
node_is_up() {
    case $(node_exec "$1" systemctl is-system-running 2>/dev/null </dev/null) in
        running | degraded) return 0 ;;
    esac
    return 1
}

node_is_down() {
    local root
    root=$(lab_cgroup_root)/$(node_machine "$1")
    [ -z "$(cat "$root"/cgroup.procs "$root"/*/cgroup.procs 2>/dev/null)" ]
}

node_wait_up() {
    lab_wait 90 "$1 to come up" node_is_up "$1" && return
    tail -n 20 "$(node_directory "$1")/console.log" >&2
    return 1
}

# A process that nsenter puts into a container stays in the host's cgroup, and gnt-cluster
# starts Ganeti's daemons: so we enter a cgroup inside the container's first.
node_exec() {
    local node=$1 leader cgroup
    shift
    leader=$(node_leader "$node") || lab_fail "$node is not running" || return
    cgroup=$(lab_cgroup_root)/$(node_machine "$node")/payload/exec
    (
        mkdir -p "$cgroup" && echo "$BASHPID" >"$cgroup/cgroup.procs" || exit
        exec nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup --root --wd -- \
            env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    )
}

# Unpacks one file or directory from a tar on stdin, and copies it as cp would.
# shellcheck disable=SC2016 # the shell that runs it expands it
LAB_UNPACK='t=$(mktemp -d) && tar -xf - -C "$t" && cp -a "$t/$1" "$2"; code=$?; rm -rf "$t"; exit $code'

node_push() {
    local source
    source=$(realpath -e "$2") || return
    tar -cf - --owner=root:0 --group=root:0 -C "${source%/*}/" "${source##*/}" |
        node_exec "$1" sh -c "$LAB_UNPACK" sh "${source##*/}" "$3"
}

node_pull() {
    local source
    source=$(node_exec "$1" realpath -e "$2" </dev/null) || return
    node_exec "$1" tar -cf - -C "${source%/*}/" "${source##*/}" </dev/null |
        sh -c "$LAB_UNPACK" sh "${source##*/}" "$3"
}

node_stop() {
    local leader
    leader=$(node_leader "$1") || return 0
    kill -s RTMIN+4 "$leader" && lab_wait 120 "$1 to stop" node_is_down "$1"
}

node_start() {
    ! node_leader "$1" >/dev/null || lab_fail "$1 is running" || return
    node_spawn "$1" && node_wait_up "$1"
}

node_reboot() {
    local leader
    leader=$(node_leader "$1") || lab_fail "$1 is not running" || return
    kill -s RTMIN+5 "$leader" && node_wait_next "$1" "$leader"
}

# Waits until another init than LEADER runs the node.
node_wait_next() {
    lab_wait 120 "$1 to go down" node_has_left "$1" "$2" && node_wait_up "$1"
}

node_has_left() {
    local leader
    leader=$(node_leader "$1") && [ "$leader" != "$2" ]
}

node_crash() {
    local leader
    leader=$(node_leader "$1") || lab_fail "$1 is not running" || return
    kill -KILL "$leader" && lab_wait 20 "$1 to die" node_is_down "$1"
}
