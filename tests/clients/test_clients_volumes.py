"""Volumes, given to docker and to the lab: exit codes, what is printed and what is found in them agree."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from clients.transcript import Case, Difference, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

_IMAGE = """
echo 'FROM busybox
RUN mkdir -p /app/sub && echo hi > /app/f && ln -s f /app/l && ln /app/f /app/h && chown -R 7:8 /app && chmod 750 /app
VOLUME /app/sub' > Dockerfile
"$ENGINE" build --network none -q -t img . >/dev/null 2>&1
"""
_SHOW = """'{{range .Mounts}}{{.Type}} {{.Destination}} [{{.Mode}}] {{.RW}} [{{.Propagation}}]
{{end}}'"""

CASES = {
    "verbs": Case(
        script="""
e volume create data
e volume create data
e volume create --label a=1 --label b= other
e volume create -d local --name third
e volume create | wc -c
e volume ls -qf name=data
e volume ls -f name=data
e volume ls -qf label=a=1; e volume ls -qf label=b; e volume ls -qf label=c
e volume ls -f driver=local -f name=other --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Label "a"}}'
e volume ls -f name=other --format 'table {{.Name}}\\t{{.Labels}}'
e volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{json .Options}}' data other
e volume inspect -f '{{json .Labels}}' data other
e volume inspect nope data | grep Name
e volume rm data nope
e volume rm -f nope
e volume ls -qf name=data
"""
    ),
    "refusals": Case(
        script="""
e volume create a
e volume create 'a*b'
e volume create -d nope x1
e volume create -o what=1 x1
e volume create -o type=none x1
e volume ls -f what=1
e volume ls -f dangling=perhaps
e volume inspect
e volume rm
e run --rm -v a1:/d:what busybox true
e run --rm -v a1:/d -v b1:/d busybox true
e run --rm -v 'a*b:/d' busybox true
e run --rm -v data:/ busybox true
e run --rm --mount src=a1 busybox true
e run --rm --mount src=a1,dst=/d,what=1 busybox true
e run --rm --mount type=bind,src=/nope-here,dst=/d busybox true
e run --rm --mount type=bind,dst=/d busybox true
e run --rm --volumes-from nope-here busybox true
""",
        says=("bind source path does not exist: /nope-here", "Duplicate mount point: /d"),
    ),
    "lives": Case(
        script="""
e run --name one -v data:/d -v /anon busybox sh -c 'echo 1 > /d/f; echo 2 > /anon/f'
e volume rm data
e rm one
e volume ls -q | wc -l
e run --rm -v data:/d -v /anon busybox cat /d/f
e volume ls -q | wc -l
e volume ls -qf dangling=true | wc -l
q volume rm data
"$ENGINE" volume prune -f >/dev/null
e volume ls -q
e run --name two -v /anon busybox true
e rm -v two
e volume ls -q
""",
        says=("volume is in use",),
    ),
    "content": Case(
        script=_IMAGE
        + """
list="ls -lan /d | sed 1d | awk '{print \\$1, \\$3, \\$4, \\$9, \\$10, \\$11}' | grep -v ' [.][.]'"
e run --rm -v data:/app img true
e run --rm -v data:/d busybox sh -c "$list"
e run --rm -v data2:/app:nocopy img ls /app
e run --rm --mount src=data3,dst=/app,volume-nocopy img ls /app
e run --rm -v data4:/etc/passwd2 busybox ls -a /etc/passwd2
e run --rm -v data5:/d busybox touch /d/own
e run --rm -v data5:/app img ls /app
e run --rm -v "$PWD/h:/app" img ls /app
e run --rm -v "$PWD/h:/app" -v data:/app/x:ro img ls /app /app/x
""",
    ),
    "inspect": Case(
        script=_IMAGE
        + f"""
e create --name one -v data:/d -v data2:/e:ro -v "$PWD:/h:ro,rslave" img >/dev/null
e inspect -f {_SHOW} one | sort
e create --name two --mount src=data,dst=/d,ro --mount type=bind,src="$PWD",dst=/h -v /a busybox >/dev/null
e inspect -f {_SHOW} two | sort
e create --name three --volumes-from two:ro -v data2:/a busybox >/dev/null
e inspect -f {_SHOW} three | sort
e inspect -f '{{{{json .HostConfig.VolumesFrom}}}} {{{{json .Config.Volumes}}}}' three two one
e inspect -f '{{{{json .HostConfig.Binds}}}}' two
e inspect -f '{{{{range .HostConfig.Mounts}}}}{{{{.Type}}}} {{{{.Target}}}} {{{{end}}}}' two
e create --name four --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 busybox >/dev/null
e inspect -f {_SHOW} four
e inspect -f '{{{{json .HostConfig.Mounts}}}}' four
e ps -a --filter volume=data2 --format '{{{{.Names}}}}'
e ps -a --filter volume=/h --format '{{{{.Names}}}}'
e ps -a --filter name=three --format '{{{{.LocalVolumes}}}}'
e system df --format '{{{{.Type}}}} {{{{.TotalCount}}}}' | grep Vol
""",
    ),
    "types": Case(
        script="""
e volume create -o type=tmpfs -o device=tmpfs -o o=size=1m,mode=700 mem
e volume inspect -f '{{json .Options}}' mem
e run --rm -v mem:/d busybox sh -c 'stat -c %a /d; df -k /d | tail -1 | cut -c1-30; touch /d/x'
e run --rm -v mem:/d busybox ls -A /d
mkdir dir; touch dir/file
e volume create -o type=none -o o=bind -o device="$PWD/dir" dir
e run --rm -v dir:/d busybox ls -A /d
e volume create -o type=ext4 -o device=/dev/nope-here bad
e run --rm -v bad:/d busybox true
e volume create -o type=none bad2
e volume create -o o=bind -o device=/x bad2
""",
        differs=(
            Difference(
                docker="[exit 127]",
                lab="[exit 125]",
                reason="docker's client takes any file that is not there for the program",
            ),
        ),
        says=("error while mounting volume", "failed to mount local volume: mount /dev/nope-here:"),
    ),
    "tmpfs": Case(
        script="""
e run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 busybox sh -c 'stat -c %a /t; df -k /t | tail -1'
e run --rm --mount type=tmpfs,dst=/t busybox sh -c 'stat -c %a /t; touch /t/x'
""",
    ),
}


@pytest.fixture
def without_volumes(engines: tuple[Engine, Engine]) -> Iterator[tuple[Engine, Engine]]:
    """Return docker and the lab without volumes, and leave none."""
    yield engines
    for engine in engines:
        listed = subprocess.run([*engine.argv, "ps", "-aq"], check=True, capture_output=True, text=True).stdout.split()
        if listed:
            subprocess.run([*engine.argv, "rm", "-fv", *listed], check=True, capture_output=True)
        names = [*engine.argv, "volume", "ls", "-q"]
        if volumes := subprocess.run(names, check=True, capture_output=True, text=True).stdout.split():
            subprocess.run([*engine.argv, "volume", "rm", *volumes], check=True, capture_output=True)


@pytest.mark.parametrize("name", CASES)
def test_volumes_are_as_docker_has_them(name: str, without_volumes: tuple[Engine, Engine]) -> None:
    check(CASES[name], without_volumes)
