#!/usr/bin/env bash
# A real SLURM of two nodes on this machine alone, for the tests. Each is declared with 16 cores, 64 GB and two GPUs,
# whatever the machine has, so that the workflow's own requests are accepted:
#   cluster.sh install      Debian's packages (as root)
#   cluster.sh start ROOT   every daemon by hand, with all of its files under ROOT; writes ROOT/run/*.pid
#   cluster.sh stop ROOT    what `start` started, by process id, and nothing else
# Three partitions: `gpu` (the default), `cpu`, and `urgent`, whose jobs preempt those of the others and have them requeued.
set -euo pipefail
action=${1:-} ROOT=${2:-}
host=$(hostname -s)
daemons=(slurmd-n2 slurmd-n1 slurmctld slurmdbd mariadbd munged)

fail() { echo "cluster.sh: $*" >&2; exit 1; }

wait_for() { # COMMAND..., for ten minutes: nothing that goes well takes as long, also on a busy machine
    local end=$((SECONDS + 600))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "not within ten minutes: $*"
        sleep 0.2
    done
}

install() {
    local missing=()
    for package in slurmctld slurmd slurm-client slurmdbd munge mariadb-server; do
        dpkg-query --show --showformat '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    [ "$(id -u)" = 0 ] || fail "needs root to install: ${missing[*]}"
    apt-get update -qq
    # No daemon is started by its package: the tests start their own.
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

write_configuration() {
    for node in n1 n2; do
        mkdir -p "$ROOT/dev/$node"
        for gpu in 0 1; do # a declared GPU must be a device node; these are twins of /dev/null
            [ -e "$ROOT/dev/$node/gpu$gpu" ] || mknod -m 666 "$ROOT/dev/$node/gpu$gpu" c 1 3
        done
    done
    cat > "$ROOT/etc/slurm.conf" <<C
ClusterName=tests
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=36817
AuthType=auth/munge
AuthInfo=socket=$ROOT/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
SlurmdParameters=config_overrides
SlurmctldPidFile=$ROOT/run/slurmctld.pid
SlurmdPidFile=$ROOT/run/slurmd-%n.pid
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=15
MinJobAge=300
KillWait=10
MessageTimeout=20
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0,defer_batch=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=36819
AccountingStoragePass=$ROOT/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=36821 CPUs=16 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=36822 CPUs=16 RealMemory=64000 Gres=gpu:2 State=UNKNOWN
PartitionName=gpu Nodes=n1,n2 Default=YES MaxTime=7-0 State=UP PriorityTier=1
PartitionName=cpu Nodes=n1,n2 MaxTime=7-0 State=UP PriorityTier=1
PartitionName=urgent Nodes=n1,n2 MaxTime=7-0 State=UP PriorityTier=10
C
    cat > "$ROOT/etc/gres.conf" <<C
AutoDetect=off
NodeName=n1 Name=gpu File=$ROOT/dev/n1/gpu[0-1]
NodeName=n2 Name=gpu File=$ROOT/dev/n2/gpu[0-1]
C
    printf 'CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n' > "$ROOT/etc/cgroup.conf"
    (umask 077; cat > "$ROOT/etc/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$ROOT/munge/socket
DbdHost=localhost
DbdPort=36819
SlurmUser=root
PidFile=$ROOT/run/slurmdbd.pid
LogFile=$ROOT/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=36306
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_accounting
C
    )
    # Snakemake's jobsteps drop SLURM_CONF, so srun looks here. A cluster's own configuration is not touched.
    mkdir -p /etc/slurm
    for file in slurm.conf gres.conf cgroup.conf; do
        [ ! -e /etc/slurm/$file ] || [ -L /etc/slurm/$file ] || fail "/etc/slurm/$file is not from these tests"
        ln -sfn "$ROOT/etc/$file" /etc/slurm/$file
    done
}

start() {
    mkdir -p "$ROOT"/{etc,log,run,state,munge,spool/n1,spool/n2}
    chmod 755 "$ROOT" "$ROOT"/{etc,log,run,state,spool,munge}
    (umask 077; head -c 1024 /dev/urandom > "$ROOT/munge/key")
    munged --force --key-file="$ROOT/munge/key" --socket="$ROOT/munge/socket" --pid-file="$ROOT/run/munged.pid" \
        --log-file="$ROOT/log/munged.log" --seed-file="$ROOT/munge/seed"
    write_configuration
    export SLURM_CONF=$ROOT/etc/slurm.conf

    mysql_install_db --no-defaults --user=root --datadir="$ROOT/mysql" --auth-root-authentication-method=normal \
        --skip-test-db > "$ROOT/log/mysql_install.log" 2>&1
    mariadbd --no-defaults --user=root --datadir="$ROOT/mysql" --socket="$ROOT/run/mysql.sock" \
        --bind-address=127.0.0.1 --port=36306 --pid-file="$ROOT/run/mariadbd.pid" --innodb-lock-wait-timeout=900 \
        --log-error="$ROOT/log/mariadbd.log" </dev/null >/dev/null 2>&1 &
    disown
    wait_for mariadb-admin --no-defaults -u root -S "$ROOT/run/mysql.sock" ping
    mariadb --no-defaults -u root -S "$ROOT/run/mysql.sock" <<C
create database slurm_accounting;
create user 'slurm'@'localhost' identified by 'slurm';
create user 'slurm'@'127.0.0.1' identified by 'slurm';
grant all on slurm_accounting.* to 'slurm'@'localhost';
grant all on slurm_accounting.* to 'slurm'@'127.0.0.1';
C
    slurmdbd
    wait_for sacctmgr --noheader list cluster
    sacctmgr --immediate add cluster tests >/dev/null 2>&1 || true
    slurmctld
    wait_for sh -c 'scontrol ping | grep -q UP'
    slurmd -N n1
    slurmd -N n2
    wait_for sh -c '[ "$(sinfo --noheader --Node --partition gpu --format %t | grep -cx idle)" = 2 ]'
}

stop() {
    for daemon in "${daemons[@]}"; do
        file=$ROOT/run/$daemon.pid
        [ -s "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
    for file in slurm.conf gres.conf cgroup.conf; do
        case $(readlink /etc/slurm/$file || true) in "$ROOT"/*) rm /etc/slurm/$file ;; esac
    done
}

case $action in
    install) install ;;
    start | stop) [ -n "$ROOT" ] || fail "usage: $0 $action ROOT"; "$action" ;;
    *) fail "usage: $0 install | start ROOT | stop ROOT" ;;
esac
