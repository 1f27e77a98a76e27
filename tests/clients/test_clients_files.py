"""Files in and out of containers, and images made of them, with docker and with the lab.

What differs on purpose stands in the table with its reason. How a script is written is said in ``transcript.py``. Of
error messages only what both say is compared: docker's own client words them differently from version to version.
"""

from __future__ import annotations

import pytest
from clients.transcript import Case, Difference, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

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


@pytest.mark.parametrize("name", list(FILES))
def test_what_happens_to_files_is_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(FILES[name], engines)
