"""`run` with the flags that people use, given to docker and to the lab: exit codes and what is printed agree.

What differs on purpose stands in the table with its reason. How a script is written is said in ``transcript.py``. Of
error messages only what both say is compared: docker's own client words them differently from version to version.
"""

from __future__ import annotations

import pytest
from clients.transcript import Case, Engine, check

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


@pytest.mark.parametrize("name", list(RUN))
def test_running_is_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(RUN[name], engines)
