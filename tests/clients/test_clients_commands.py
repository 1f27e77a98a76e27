"""The same commands, given to docker and to the lab: exit codes and what is printed agree.

What differs on purpose stands in the table with its reason. How a script is written is said in ``transcript.py``. Of
error messages only what both say is compared: docker's own client words them differently from version to version.
"""

from __future__ import annotations

import pytest
from clients.transcript import Case, Difference, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

_IMAGE = """
echo 'FROM busybox
ENTRYPOINT ["echo","ep"]
CMD ["cmd","$HOME"]
ENV A=1 B=2
WORKDIR /w/d
USER 7:8' > Dockerfile
"$ENGINE" build --network none -q -t img . >/dev/null 2>&1
"""
_LIMITS = """
show() {
    cat <<'END'
cd /sys/fs/cgroup
for file in memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes \\
    memory/memory.swappiness memory.max memory.swap.max memory.low cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us \\
    cpu/cpu.shares cpu.max cpu.weight pids/pids.max pids.max cpuset/cpuset.cpus cpuset/cpuset.mems cpuset.cpus \\
    blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_bps_device io.max \\
    blkio/blkio.throttle.read_iops_device blkio/blkio.throttle.write_iops_device
do test -e $file && echo "$file $(cat $file)"; done
grep oom_kill_disable memory/memory.oom_control 2>/dev/null || true
END
}
disk=/dev/$(lsblk -dnpo NAME 2>/dev/null | sed -n 's,^/dev/\\([a-z]*\\)$,\\1,p' | head -1)
"""
_STATUS = "st='grep -E \"^(Cap|NoNewPrivs|Seccomp:)\" /proc/self/status'\n"

RUN = {
    "command": Case(
        script="""
e run --rm busybox echo a 'b c'
e run --rm --entrypoint=/bin/sh busybox -c 'echo $0 $@' a b
e run --rm --entrypoint '' busybox echo none
e run --rm -e=A=1 -eB=2 busybox sh -c 'echo $A $B'
e run --rm -- busybox echo a
e run --rm -- busybox echo -- a
e run --rm busybox -- echo a
echo in | e run --rm -i busybox cat
echo in | e run --rm busybox cat
e run --rm=true -t busybox sh -c 'test -t 1 && echo tty'
e run --rm -a stdout busybox sh -c 'echo 1; echo 2 >&2'
"""
    ),
    "image-says": Case(
        script=_IMAGE
        + """
e run --rm img
e run --rm img other
e run --rm --entrypoint echo img
e run --rm --entrypoint sh img -c 'pwd; id; env | sort | grep ^[AB]='
e run --rm -e A=9 -e B -w /x/y -u 9 --entrypoint sh img -c 'pwd; id; env | sort | grep ^[AB]='
"""
    ),
    "environment": Case(
        script="""
export ABC=abc
printf '# c\\n\\nX=1\\n  Y=2 \\nABC\\nNOTSET_\\nQ="q"\\nE=\\n' > f
printf 'a b=1\\n' > g
printf '=1\\n' > h
e run --rm --hostname h --env-file f -e Z='a b' -e EMPTY= -e UNSET_ -e X=7 busybox env | sort
e run --rm --env-file g busybox env
e run --rm --env-file h busybox env
e run --rm --env-file nosuch busybox env
e run --rm -e '=x' busybox env
""",
        says=(
            "variable 'a b' contains whitespaces",
            "no variable name on line '=1'",
            "open nosuch: no such file or directory",
            "invalid environment variable: =x",
        ),
    ),
    "users": Case(
        script="""
for u in 5 0:6 root:7 :8; do e run --rm -u $u busybox id; done
e run --rm -u nosuch busybox id
e run --rm -u 0:nosuch busybox id
e run --rm --group-add 44 --group-add root busybox id
e run --rm --group-add nosuch busybox id
""",
        says=(
            "unable to find user nosuch: no matching entries in passwd file",
            "unable to find group nosuch: no matching entries in group file",
        ),
    ),
    "names": Case(
        script="""
e run --rm --hostname hh --domainname dd busybox sh -c \\
    'hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname; grep -c hh /etc/hosts'
e run --rm busybox sh -c 'test $(hostname) = $(cat /etc/hostname) && expr length $(hostname)'
e run --cidfile id --name cc -l a=b -l c --label d= busybox true
wc -c < id
e inspect -f '{{json .Config.Labels}}' cc
e run --cidfile id busybox true
e run --name cc busybox true
e create --name cc busybox true
e run --name '/bad name' busybox true
e run --name c busybox true
""",
        says=(
            "container ID file found, make sure the other container isn't running or delete id",
            'the container name "/cc" is already in use by container',
            "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
    ),
    "exit-codes": Case(
        script="""
e run --rm busybox sh -c 'exit 3'
e run --rm busybox nosuch
e run --rm busybox /etc/nosuch
e run --rm busybox /etc
e run --rm busybox /etc/passwd
e run --rm --init busybox sh -c 'kill -INT $$'
e run --rm busybox sh -c 'sh -c "kill -9 \\$\\$"'
e run -d --name c1 busybox sleep 100
e kill c1
e wait c1
e run -d --name c2 --init busybox sleep 100
e stop c2
e wait c2
e run --rm --init busybox nosuch
""",
        says=("nosuch", "permission denied"),
    ),
    "wrong-flags": Case(
        script="""
e run
e run --nosuch busybox
for verb in run create exec start logs rm rename rmi tag; do e $verb --nosuch; done
e run -it busybox true
e run -d -a stdout busybox true
e run --restart always --rm busybox true
e run --restart nosuch busybox true
e run --rm -w rel busybox true
e run --rm -w /etc/passwd busybox true
e run --memory 1m busybox true
e run --memory x busybox true
e run --stop-timeout x busybox true
e run --pull nosuch busybox true
e create --pull never nosuch true
e run --pull never nosuch:x true
e run --tmpfs rel busybox true
e run --tmpfs /x:nosuch busybox true
e run --cap-add nosuch busybox true
e run --security-opt nosuch busybox true
e run --security-opt seccomp=/nosuch busybox true
e run --ulimit nosuch=1 busybox true
e run --ulimit nofile=5:2 busybox true
e run --ulimit nofile busybox true
e run --sysctl kernel.hostname=x busybox true
e run --oom-score-adj 2000 busybox true
e run --health-cmd x --no-healthcheck busybox true
""",
        says=(
            "the input device is not a TTY",
            "conflicting options: cannot specify both --attach and --detach",
            "the working directory 'rel' is invalid, it needs to be an absolute path",
            "Minimum memory limit allowed is 6MB",
            "conflicting options: cannot specify both --restart and --rm",
            "No such image: nosuch:latest",
            "mount path must be absolute",
            'invalid tmpfs option ["nosuch"]',
            'invalid CapAdd: unknown capability: "CAP_NOSUCH"',
            'invalid --security-opt: "nosuch"',
            "opening seccomp profile (/nosuch) failed",
            "invalid ulimit type: nosuch",
            "ulimit soft limit must be less than or equal to hard limit: 5 > 2",
            "invalid ulimit argument: nofile",
            "sysctl 'kernel.hostname=x' is not allowed",
            "Invalid value 2000, range for oom score adj is [-1000, 1000]",
            "--no-healthcheck conflicts with --health-* options",
        ),
    ),
    "rights": Case(
        script=_STATUS
        + """
e run --rm busybox sh -c "$st"
e run --rm --cap-drop all --cap-add net_admin --cap-add CAP_SYS_TIME busybox sh -c "$st"
e run --rm -u 5 --cap-add net_admin busybox sh -c "$st"
e run --rm --security-opt no-new-privileges --security-opt seccomp=unconfined busybox sh -c "$st"
"""
    ),
    "storage": Case(
        script="""
mkdir d; echo 1 > d/f; echo 2 > g
e run --rm --read-only --tmpfs /t --tmpfs /u:size=1m,mode=700,uid=5 busybox sh -c \\
    'touch /a; touch /t/a && echo ok; grep -E " /[tu] " /proc/mounts | sort; ls -ld /t /u | cut -c 1-10'
e run --rm --shm-size 8m busybox sh -c 'df -k /dev/shm | tail -1 | tr -s " "'
e run --rm -v $PWD/d:/d -v $PWD/g:/etc/g:ro busybox sh -c \\
    'cat /d/f /etc/g; echo 3 > /d/new; echo x > /etc/g; grep -cE " (/d|/etc/g) " /proc/mounts'
cat d/new g
e run --rm -v $PWD/made/up:/m busybox ls -a /m
ls -d made/up
e run --rm -v $PWD/d:/d:ro,z busybox touch /d/x
e run --rm -v $PWD/d:/d:nosuch busybox true
e run --rm -v $PWD/d:rel busybox true
e run --rm -v $PWD/d:/ busybox true
e run --rm -v $PWD/d:/proc/x busybox true
e run --rm -v a:b:c:d busybox true
e run --rm -v /anon -w /anon busybox sh -c 'touch x; ls -d x'
e run --rm -v $PWD/d:/a/b/c -v $PWD/g:/a/g busybox sh -c 'find /a | sort'
e run --rm --device /dev/null:/dev/mynull:r busybox sh -c 'ls -l /dev/mynull | cut -c 1-10; cat /dev/mynull'
""",
        says=(
            "invalid mode: nosuch",
            "destination can't be '/'",
            "cannot be mounted because it is inside /proc",
            "invalid volume specification: 'a:b:c:d'",
        ),
    ),
    "kernel": Case(
        script="""
e run --rm --ulimit nofile=100:200 --ulimit core=0 busybox sh -c 'grep -E "open files|core" /proc/self/limits'
e run --rm --sysctl kernel.msgmax=4096 --sysctl net.ipv4.ip_forward=0 busybox sh -c \\
    'cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward'
e run --rm --oom-score-adj 77 busybox cat /proc/self/oom_score_adj
e run --rm --ipc host --pid host --uts host busybox sh -c 'readlink /proc/self/ns/ipc' > ns
test "$(cat ns)" = "$(readlink /proc/self/ns/ipc)" && echo shared
""",
    ),
}

LIMITS = {
    "limits": Case(
        script=_LIMITS
        + """
e run --rm -m 32m --cpus 0.5 --cpu-shares 512 --pids-limit 99 --cpuset-cpus 0 busybox sh -c "$(show)"
e run --rm -m 32m --memory-swap 48m --memory-reservation 16m --memory-swappiness 0 --cpu-period 50000 \\
    --cpu-quota 20000 --cpuset-cpus 0 busybox sh -c "$(show)"
e run --rm -m 32m --memory-swap -1 --pids-limit -1 --oom-kill-disable --cpuset-mems 0 --cpuset-cpus 0 \\
    busybox sh -c "$(show)"
e run --rm --device-read-bps $disk:1mb --device-write-bps $disk:2mb --device-read-iops $disk:30 \\
    --device-write-iops $disk:40 --blkio-weight 300 --cpuset-cpus 0 busybox sh -c "$(show)"
"""
    ),
    "wrong-limits": Case(
        script="""
e run --memory-swap 48m busybox true
e run -m 32m --memory-swap 16m busybox true
e run -m 32m --memory-reservation 64m busybox true
e run --memory-swappiness 101 busybox true
e run --device-read-bps 1 busybox true
echo disk; e run --device-read-bps /dev/nosuch:1 busybox true
e run --cpus 99 busybox true
e run --cpus x busybox true
e run --cpus 1 --cpu-quota 5000 busybox true
e run --cpuset-cpus 77 busybox true
e run --cpuset-mems 77 busybox true
e run --cpuset-cpus x busybox true
e run --pids-limit x busybox true
""",
        says=(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
            "Minimum memoryswap limit should be larger than memory limit, see usage",
            "Minimum memory limit can not be less than memory reservation limit, see usage",
            "101. Valid memory swappiness range is 0-100",
            "/dev/nosuch: no such file or directory",
            "Range of CPUs is from 0.01 to",
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set",
            "Requested CPUs are not available - requested 77, available: 0-",
            "Requested memory nodes are not available - requested 77, available: 0",
            "Invalid value x for cpuset cpus",
        ),
        differs=(
            Difference(
                docker="disk\n[exit 127]\n",
                lab="disk\n[exit 125]\n",
                reason="docker takes a disk that is not there for a program that is not there",
            ),
        ),
    ),
}

LIFE = {
    "states": Case(
        script="""
e create --name cc busybox sleep 100
e start cc
e start cc
e inspect -f '{{.State.Status}}' cc
e pause cc
e pause cc
e exec cc true
e unpause cc
e unpause cc
e kill -s USR1 cc
e stop -t 1 cc
e stop cc
e kill cc
e wait cc
e inspect -f '{{.State.Status}} {{.State.ExitCode}}' cc
e rename cc dd
e rename dd dd
e start nosuch dd
e rm dd
e rm -f dd
e ps -a
""",
        says=(
            "is already paused",
            "is paused, unpause the container before exec",
            "is not paused",
            "is not running",
            "Renaming a container with the same name as its current name",
            "container before",
            "No such container: nosuch",
        ),
    ),
    "nobody": Case(
        script="""
for verb in start stop restart kill pause unpause wait rm rm; do e $verb nosuch; done
for verb in start stop restart kill pause unpause wait rm rename exec commit cp diff export; do e $verb; done
for verb in start stop restart kill wait rm exec commit cp diff export; do e $verb --nosuch x y; done
e rename a b c
e kill -s nosuch nosuch
e rename nosuch ee
e exec nosuch true
e attach nosuch
e logs nosuch
""",
        says=("No such container: nosuch",),
    ),
    "signals": Case(
        script="""
e run -d --name c1 --stop-signal USR1 busybox sh -c 'trap "echo got; exit 7" USR1; echo up; while :; do sleep 0.1; done'
until "$ENGINE" logs c1 | grep -q up; do :; done
e stop c1
e wait c1
e logs c1
e run -d --name c2 busybox sh -c 'trap "exit 9" TERM; echo up; while :; do sleep 0.1; done'
until "$ENGINE" logs c2 | grep -q up; do :; done
e kill -s TERM c2
e wait c2
e run -d --name c3 busybox sh -c 'echo out; echo err >&2; exit 42'
e wait c3
e start -a c3
e start -a c3 c2
e start -a nosuch
e restart -t 1 c2
e inspect -f '{{.State.Running}}' c2
e run --rm -d --name c4 busybox sleep 100
e ps --format '{{.Names}} {{.Image}} {{.Command}}' --filter name=c4
e stop -t 0 c4
until ! "$ENGINE" inspect c4 >/dev/null 2>&1; do :; done
e wait c4
""",
        says=("cannot start and attach multiple containers at once", "No such container: c4"),
    ),
    "exec": Case(
        script="""
e run -d --name cc -e A=1 -w /etc -u 5 busybox sleep 1000
e exec cc sh -c 'pwd; id; echo $A'
e exec -e A=2 -e B=3 -w / -u 0:7 cc sh -c 'pwd; id; echo $A$B'
echo in | e exec -i cc cat
echo in | e exec cc cat
e exec cc sh -c 'exit 9'
e exec cc sh -c 'kill -9 $$'
e exec cc /etc >/dev/null
e exec -u nosuch cc true >/dev/null
e exec -w /missing cc true >/dev/null
e exec -w /etc/passwd cc true >/dev/null
e exec cc echo -- a
e exec -d cc sh -c 'echo x > /tmp/f'
until "$ENGINE" exec cc cat /tmp/f 2>/dev/null | grep -q x; do :; done
e exec -u root cc cat /tmp/f
e exec nosuch true
e exec cc
e exec -it cc true
printf 'Q=1\\n' > f; e exec --env-file f cc sh -c 'echo $Q'
e kill cc
e wait cc
e exec cc true
""",
        says=("No such container: nosuch", "the input device is not a TTY", "is not running"),
    ),
    "update": Case(
        script=_LIMITS
        + """
q run -d --name cc -m 32m --cpuset-cpus 0 busybox sleep 1000
e update -m 64m --memory-swap 128m cc
e update --memory-reservation 16m --cpu-shares 77 --pids-limit 55 --cpus 0.3 cc
e exec cc sh -c "$(show)"
e update -m 256m cc
e update --cpu-quota 5000 cc
e update --cpus 99 cc
e update -m 1m cc
e update nosuch -m 64m
e update cc
e update --restart on-failure:3 cc
e inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}' cc
e update --restart nosuch cc
q stop -t 0 cc
e update -m 40m --memory-swap 40m --pids-limit -1 cc
q start cc
e exec cc sh -c "$(show)"
""",
        says=("Memory limit should be smaller than already set memoryswap limit", "No such container: nosuch"),
    ),
}

_LIST = """
list() {
    find . | grep -v ^./src | sort | while read -r path; do
        if [ -h "$path" ]; then echo "$path -> $(readlink "$path")"
        elif [ -d "$path" ]; then echo "$path/"
        else echo "$path = $(cat "$path")"; fi
    done
}
mkdir src; echo 1 > src/f; mkdir src/d; echo 2 > src/d/g
ln -s f src/l; ln -s nowhere src/dang; ln -s d src/ld; chmod 640 src/f; chown 1234:5 src/f
"""
FILES = {
    "cp-out": Case(
        script=_LIST
        + """
q create --name cc busybox true
q cp src cc:/s
while read -r source target; do
    rm -rf out; mkdir -p out/dir; echo old > out/file; echo "## $source $target"
    (cd out; e cp cc:/s/$source $target; list)
done <<END
f new
f file
f dir/
f no/
d new
d file
d/. dir
l .
dang .
nosuch .
f/x .
f /nosuch/a/b
ld/ trail
END
for path in l ld dang; do echo "## -L $path"; e cp -L cc:/s/$path o-$path; list; done
e cp cc:/s/d - > t.tar; tar tf t.tar
e cp cc:/s/f - > t.tar; tar tf t.tar
e cp cc:/s/d/. - > t.tar; tar tf t.tar
e cp cc:s/f relative; cat relative
e cp cc:/etc/nosuch - > t.tar
e cp -q cc:/s/f quiet
"""
    ),
    "cp-in": Case(
        script=_LIST
        + """
cat > cases <<END
src/f new
src/f new/
src/f file
src/f dir
src/f dir/
src/f lnk
src/f flnk
src/f dlnk
src/f no/x
src/d new
src/d file
src/d dir
src/d/. dir
src/d/. new
src/d lnk/
src/l new
src/ld new
src/ld/ new
src/dang new
src/nosuch dir
src/f dir/sub
-L src/l new
-a src/f new
END
n=100; while read -r line; do
    n=$((n+1)); mkdir -p t/$n/dir/sub/f t/$n/dir/d; echo old > t/$n/file
    ln -s dir t/$n/lnk; ln -s file t/$n/flnk; ln -s nowhere t/$n/dlnk
done < cases
q create --name cc busybox true
q cp t cc:/
n=100; while read -r line; do
    n=$((n+1)); echo "## $n $line"; e cp ${line% *} cc:/t/$n/${line##* }
done < cases
e cp cc:/t - > t.tar
tar tvf t.tar --numeric-owner | sed -E 's/ +[0-9]+ [0-9]{4}-[0-9-]+ [0-9:]+//' | sort -k 3
"""
    ),
    "cp-running": Case(
        script="""
q run -d --name cc -v /vol busybox sleep 1000
echo 1 > f
e cp f cc:/vol/f
e cp f cc:/new
e exec cc cat /vol/f /new
e cp cc:/vol/f out; cat out
e cp cc:/proc/self/comm .
e cp - cc:/nosuch < f
e cp - cc:/new < f
tar cf - f | e cp - cc:/tmp
e exec cc cat /tmp/f
e cp f nosuch:/x
e cp nosuch:/x .
e cp cc:/new dd:/x
e cp f g
mkdir dot; touch dot/1; ln -s 1 dot/2
e cp dot/. cc:/dot; e exec cc find /dot
q kill cc
e cp f cc:/vol/g; e cp cc:/vol/g vf; cat vf
q run --name ro --read-only -v /vol busybox true
e cp f ro:/x
e cp f ro:/vol/x
""",
        says=(
            'destination "cc:/nosuch" must be a directory',
            'destination "cc:/new" must be a directory',
            "copying between containers is not supported",
            "must specify at least one container source",
            "read-only",
        ),
    ),
    "cp-differs": Case(
        script="""
q run -d --name cc --tmpfs /tf busybox sleep 1000
echo 1 > f
e cp f cc:/tf/f
e exec cc cat /tf/f
e cp f cc:
e cp f cc:/proc/x
""",
        differs=(
            Difference(
                docker="[exit 0]\n[exit 1]\n[exit 1]\n[exit 0]\n",
                lab="[exit 0]\n1\n[exit 0]\n[exit 0]\n[exit 1]\n",
                reason="docker writes below what is mounted in memory, where nobody sees it; an empty path is the root",
            ),
        ),
    ),
    "diff": Case(
        script="""
q create --name cc busybox true
e diff cc
q run --name dd busybox sh -c 'mkdir /n /n/m; touch /n/f; rm -r /etc/group; echo x >> /etc/passwd; ln -s x /l
    mkdir /.wh.x; chmod 700 /var; rm -r /var/spool; touch /tmp/t; echo > /dev/shm/x'
e diff dd > changes; sort changes
q run --name ee busybox sh -c 'rm -r /var /home /usr; mkdir -p /home /var/x; touch /usr /var/x/y; mv /root /root2
    chmod 644 /etc/group; rm /bin/cat; mkdir /bin/cat; touch /bin/cat/z; touch -d @0 /tmp; chown 0:0 /etc/passwd'
e diff ee > changes; sort changes
e diff nosuch
"""
    ),
    "commit": Case(
        script="""
q run --name cc -e A=1 -w /w -u 7 --entrypoint sh -l x=y --stop-signal INT busybox -c 'echo hi; id'
e commit -m 'a message' -a 'me <me@x>' -c 'ENV B=2 C=3' -c 'LABEL q=r' -c 'EXPOSE 80' \\
    -c 'CMD ["-c","echo $A$B; pwd; id"]' cc new:v1
e run --rm new:v1
e inspect -f '{{.Author}}|{{.Comment}}|{{json .Config.Env}}|{{json .Config.Cmd}}|{{json .Config.Entrypoint}}' new:v1
e inspect -f '{{json .Config.Labels}}|{{json .Config.ExposedPorts}}|{{.Config.User}}' new:v1
e inspect -f '{{.Config.WorkingDir}}|{{.Config.StopSignal}}|{{len .RootFS.Layers}}' new:v1
e history --format '{{.CreatedBy}}|{{.Comment}}' new:v1
e commit -c 'RUN x' cc
e commit nosuch
e commit cc 'Bad Name'
e commit -p=false cc new:v2
e rmi new:v1
e rmi new:v2
""",
        says=("run is not a valid change command", "No such container: nosuch", "must be lowercase"),
    ),
    "export-import": Case(
        script="""
q run --name cc busybox sh -c 'mkdir /n; echo x > /n/f; ln /n/f /n/h; ln -s f /n/l; mknod /n/c c 1 3; chmod 4755 /n/f
    chown 5:6 /n/f; mkfifo /n/p; truncate -s 8M /n/sparse'
e export cc > c.tar
tar tvf c.tar --numeric-owner | grep ' n/' | sed -E 's/ +[0-9]{4}-[0-9-]+ [0-9:]+//' | sort -k 4
tar tf c.tar | sed 's,^[.]/,,' | grep -vE '^(dev|etc|proc|sys|\\.dockerenv)' | sort | head -20
e export -o c2.tar cc
cmp c.tar c2.tar && echo equal
e import -c 'CMD ["cat","/n/f"]' -c 'ENV X=1' -m mess c.tar imp:1
e import - imp:2 < c.tar
e inspect -f '{{json .Config.Cmd}}{{json .Config.Env}}{{.Comment}}{{len .RootFS.Layers}}' imp:1
e run --rm imp:1
e run --rm imp:2 cat /n/h
e run --rm imp:2
e history --format '{{.CreatedBy}}|{{.Comment}}' imp:1
e import nosuch imp:3
e export nosuch
e rmi imp:1
e rmi imp:2
""",
        says=("no command specified", "open nosuch: no such file or directory", "No such container: nosuch"),
    ),
}

IMAGES = {
    "names": Case(
        script="""
q tag busybox a:1
q tag busybox b:1
e images --format '{{.Repository}}:{{.Tag}}' --filter reference='[ab]' > list; sort list
e rmi a:1
e rmi a:1
e rmi nosuch
q create --name cc b:1 true
e rmi b:1
e tag nosuch x
e tag busybox 'X:y'
e tag busybox
e tag busybox a/b/c:d_e.f-g
e images -q a/b/c
e images --no-trunc --format '{{.ID}}' a/b/c
e images nosuch
e images -f reference='a/*/c' --format '{{.Repository}}'
e images -f nosuch=1
e rmi a/b/c:d_e.f-g nosuch
e history -q busybox
e history --no-trunc --format '{{.CreatedBy}}' busybox
e history nosuch
e image inspect -f '{{.Os}}/{{.Architecture}}' busybox
e image inspect nosuch
e rmi
e image rm nosuch
""",
        says=("No such image: nosuch:latest", "must be lowercase", "invalid filter 'nosuch'"),
    ),
    "save-load": Case(
        script="""
q tag busybox s:1
e save -o s.tar s:1
e rmi s:1
e load -i s.tar
e images -q s
e save s:1 | e load
e save nosuch
e load -i nosuch
echo junk > junk; e load -i junk
e rmi s:1
""",
        says=("No such image: nosuch", "nosuch: no such file or directory"),
    ),
}


@pytest.mark.parametrize("name", list(RUN))
def test_running_is_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(RUN[name], engines)


@pytest.mark.parametrize("name", list(LIMITS))
def test_limits_are_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(LIMITS[name], engines)


@pytest.mark.parametrize("name", list(LIFE))
def test_the_life_of_a_container_is_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(LIFE[name], engines)


@pytest.mark.parametrize("name", list(FILES))
def test_what_happens_to_files_is_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(FILES[name], engines)


@pytest.mark.parametrize("name", list(IMAGES))
def test_images_are_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(IMAGES[name], engines)
