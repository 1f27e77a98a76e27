"""The same networks and ports, given to docker and to the lab: what is printed, who reaches whom, and exit codes agree.

How a script is written is said in ``transcript.py``; here the engine is ``n``, which leaves networks as they are given.
Names of networks and containers are each script's own, since docker's daemon serves all of them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from clients.transcript import Case, Difference, Engine, check

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("root"),
    pytest.mark.needs("overlay"),
    pytest.mark.needs("nftables"),
    pytest.mark.needs("docker"),
]

_N = """
n() { "$ENGINE" "$@"; code=$?; echo "[exit $code]" >&3; return $code; }
if grep -q -- "-m lab" "$ENGINE"; then A=10.91 B=31000; else A=10.92 B=32000; fi
same() { sed -E 's/10\\.9[12]\\./10.9X./g; s/02:42:0a:5[bc]/02:42:0a:5X/g; s/fd9[12]:/fd9X:/g'; }
"""

CASES = {
    "verbs": Case(
        script="""
q network create --label a=1 --subnet $A.1.0/24 one
n network ls --filter name=one --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Internal}} {{.IPv6}}'
n network ls --filter label=a=1 --format '{{.Name}}'
n network ls --filter label=c -q
n network ls --filter driver=null --format '{{.Name}}'
n network ls --filter type=custom --filter name=one --format '{{.Name}}'
n network inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{.EnableIPv6}}' one
n network inspect -f '{{json .IPAM}} {{json .Options}} {{json .Labels}} {{json .Containers}}' one | same
n network inspect -f '{{json .ConfigFrom}} {{.ConfigOnly}} {{.Ingress}}' one
n network inspect nosuch
n network create one
n network create host
n network rm one
n network rm one
n network rm host
n network rm -f nosuch
n network create --subnet $A.1.5/24 two
n network create --subnet $A.1.0/24 --gateway 10.1.1.1 two
n network create --subnet x two
n network create --driver nosuch three
n network create
n network rm
""",
        says=("already exists", "predefined", "not found", "no matching subnet for gateway", "plugin"),
    ),
    "addresses": Case(
        script="""
q network create --subnet $A.2.0/24 --ip-range $A.2.128/25 --gateway $A.2.9 addr
q network create plain-addr
n run --rm --network addr busybox sh -c 'ip -4 -o addr show eth0; ip route' | awk '{print $2,$3,$4}' | same
n run --rm --network addr --ip $A.2.7 busybox ip addr show eth0 | awk '/ether|inet / {print $1,$2}' | same
n run --rm --network addr --ip 10.99.1.1 busybox true
n run --rm --network plain-addr --ip $A.2.7 busybox true
n run --rm --network nosuch busybox true
n run --rm --network none --ip $A.2.7 busybox true
n run --rm --network addr --ip nonsense busybox true
n run --rm --network addr --mac-address nonsense busybox true
q network rm addr
q network rm plain-addr
""",
        says=("network nosuch not found", "user configured subnets", "invalid", "not a valid mac address"),
    ),
    "names": Case(
        script="""
q network create talk
q run -d --name names-db --network talk --network-alias store --network-alias base busybox sleep 60
n run --rm --network talk busybox ping -c 1 -W 3 names-db >/dev/null
n run --rm --network talk busybox ping -c 1 -W 3 store >/dev/null
n run --rm --network talk busybox ping -c 1 -W 3 base >/dev/null
n run --rm --network talk busybox ping -c 1 -W 3 names-db.talk >/dev/null
n run --rm --network talk busybox ping -c 1 -W 1 names-nobody 2>&1
n run --rm --network talk --add-host h:1.2.3.4 --hostname me busybox sh -c 'grep -c me /etc/hosts; grep h$ /etc/hosts'
n run --rm --network talk --dns-search a.example --dns-option timeout:1 busybox grep -v nameserver /etc/resolv.conf
n run --rm --network talk busybox grep -c nameserver /etc/resolv.conf
each='{{range $name, $net := .NetworkSettings.Networks}}{{$name}} {{json $net.IPAMConfig}} {{len $net.Aliases}}{{end}}'
n inspect -f "$each" names-db
n network rm talk
q rm -f names-db
n network rm talk
""",
        says=("has active endpoints",),
    ),
    "connect": Case(
        script="""
q network create --internal in-net
q network create out-net
q run -d --name con-one --network in-net busybox sleep 60
q run -d --name con-two --network out-net busybox sleep 60
n network connect --alias other out-net con-one
n exec con-one ip route | grep -c default
n exec con-two ping -c 1 -W 3 other >/dev/null
n network connect out-net con-one
n ps --filter name=con-one --format '{{.Networks}}' | tr , '\\n' | sort
n network disconnect out-net con-one
n network disconnect out-net con-one
n network connect out-net nosuch
n network connect nosuch con-one
n network connect host con-one
q create --name con-none --network none busybox
n network connect out-net con-none
q stop -t 0 con-two
n network connect in-net con-two
q start con-two
n exec con-two ip -o -4 addr | wc -l
n network prune -f
q rm -f con-one con-two con-none
n network prune -f | sort
""",
        says=(
            "endpoint with name con-one already exists in network out-net",
            "is not connected to",
            "No such container: nosuch",
            "network nosuch not found",
        ),
    ),
    "events": Case(
        script="""
since=$(date +%s.%N)
q network create ev-one
q network create ev-two
q run -d --name ev-first --network ev-one busybox sleep 60
q network connect ev-two ev-first
q network disconnect ev-two ev-first
q stop -t 0 ev-first
q network connect ev-two ev-first
q network disconnect ev-two ev-first
q start ev-first
q rm -f ev-first
q run --rm --name ev-second --network none busybox true
q run --rm --name ev-third --network host busybox true
q network rm ev-one
q network rm ev-two
n events --since $since --until $(date +%s.%N) --filter type=network --format \\
    '{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}} {{if .Actor.Attributes.container}}+{{end}}'
n events --since $since --until $(date +%s.%N) --format '{{.Type}} {{.Action}}' | grep -A 1 -B 1 ' start'
""",
        differs=(
            Difference(
                docker="disconnect ev-two bridge +\ndisconnect ev-two bridge +\n",
                lab="disconnect ev-two bridge +\n",
                reason="docker tells twice that a container that runs has left a network",
            ),
        ),
    ),
    "ports": Case(
        script="""
q network create web-net
here() { sed -E 's/3[12]0([0-9][0-9])/3X0\\1/g; s/, \\[?::\\]?:[^,]*//g; /\\[::\\]|:::/d'; }
q run -d --name port-web --network web-net -p 127.0.0.1:$B:80 -p 127.0.0.1:$((B+1)):81/udp --expose 90 \\
    busybox sh -c 'cd /tmp; echo hello > index.html; httpd -f -p 80'
n port port-web | sort | here
n port port-web 80 | here
n port port-web 81/udp | here
n port port-web 99
n ps --filter name=port-web --format '{{.Ports}}' | here
n inspect -f '{{json .HostConfig.PortBindings}} {{json .NetworkSettings.Ports}}' port-web | here
sleep 0.3
busybox wget -q -O - http://127.0.0.1:$B/
n run -d --name port-clash --network web-net -p 127.0.0.1:$B:80 busybox true >/dev/null
n ps -a --filter name=port-clash --format '{{.State}}'
n run --rm --network web-net -p 99999:80 busybox true
n run --rm --network web-net -p 80:x busybox true
n run --rm --network web-net -p 1-2:1-3 busybox true
q rm -f port-web port-clash
n run --rm --network web-net -p 127.0.0.1:$B:80 busybox echo free
q network rm web-net
""",
        says=("port is already allocated", "no public port '99", "invalid hostPort: 99999", "invalid containerPort: x"),
    ),
}


@pytest.fixture
def networks(engines: tuple[Engine, Engine]) -> Iterator[None]:
    """Remove what a script has left of networks, after its containers."""
    yield
    for engine in engines:
        listed = subprocess.run([*engine.argv, "ps", "-aq"], check=True, capture_output=True, text=True).stdout.split()
        if listed:
            subprocess.run([*engine.argv, "rm", "-f", *listed], check=True, capture_output=True)
        subprocess.run([*engine.argv, "network", "prune", "-f"], check=True, capture_output=True)


@pytest.mark.usefixtures("networks")
@pytest.mark.parametrize("name", CASES)
def test_networks_and_ports_are_as_with_docker(engines: tuple[Engine, Engine], name: str) -> None:
    case = CASES[name]
    check(Case(script=_N + case.script, says=case.says, differs=case.differs), engines)
