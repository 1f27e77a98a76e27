"""The life of a container, from `create` to `rm`, with docker and with the lab.

What differs on purpose stands in the table with its reason. How a script is written is said in ``transcript.py``. Of
error messages only what both say is compared: docker's own client words them differently from version to version.
"""

from __future__ import annotations

import pytest
from clients.transcript import Case, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

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
    "refused-values": Case(
        script="""
for verb in run create; do
    e $verb --memory x
    e $verb --memory x busybox
    e $verb --stop-timeout x busybox
    e $verb --cpus x busybox
    e $verb --health-interval 5
    e $verb --health-interval 0.5ms --health-cmd true busybox
    e $verb --health-timeout 999us busybox
    e $verb --health-start-period -1s busybox
    e $verb --health-retries -1 busybox
    e $verb --no-healthcheck --health-cmd true busybox
    e $verb --restart always --rm busybox
    e $verb --log-opt nope=1 busybox
done
e update --memory x cc
q create --network none --name hc --health-interval 0 --health-timeout 1ms --health-cmd true busybox
e inspect -f '{{json .Config.Healthcheck}}' hc
q run --network none -d --name nolog --log-driver none busybox sleep 100
e logs nolog
e attach --nosuch nolog
q rm -f nolog
q create --network none --name missing busybox nosuch
e start missing
e start -a missing
e start -i missing
q run --network none --name packed --log-opt compress=true --log-opt max-size=10k --log-opt max-file=3 busybox seq 9000
"$ENGINE" logs packed | tail -n 1
""",
        says=(
            'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\'',
            "Interval in Healthcheck cannot be less than 1ms",
            "Timeout in Healthcheck cannot be less than 1ms",
            "--health-start-period cannot be negative",
            "--health-retries cannot be negative",
            "--no-healthcheck conflicts with --health-* options",
            'time: missing unit in duration "5"',
            "configured logging driver does not support reading",
        ),
    ),
}


@pytest.mark.parametrize("name", list(LIFE))
def test_the_life_of_a_container_is_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(LIFE[name], engines)
