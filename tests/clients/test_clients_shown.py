"""What lists and documents show, with docker and with the lab: templates over what is not said, filters, columns.

What differs on purpose stands in the table with its reason. How a script is written is said in ``transcript.py``.
"""

from __future__ import annotations

import pytest
from clients.transcript import Case, Engine, check

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]

SHOWN = {
    "nothing-said": Case(
        script="""
e create --name nn busybox
i() { e inspect -f "$1" nn; }
i '{{.HostConfig.CapAdd}}|{{.Config.Entrypoint}}|{{.Config.Volumes}}|{{.HostConfig.Binds}}|{{.Mounts}}|{{.ExecIDs}}'
i '{{.HostConfig.PortBindings}}|{{.HostConfig.Tmpfs}}|{{.HostConfig.Sysctls}}|{{.Config.ExposedPorts}}'
i '{{.HostConfig.PidsLimit}}|{{.HostConfig.Init}}|{{.State.Health}}|{{.Config.Healthcheck}}|{{.Config.StopTimeout}}|'
i '{{.Config.StopSignal}}|{{.HostConfig.Mounts}}|{{.Config.Shell}}|{{.Config.ArgsEscaped}}|{{.SizeRw}}'
i '{{json .HostConfig.CapAdd}} {{json .State.Health}} {{json .Config.ExposedPorts}} {{json .Mounts}} {{json .State}}'
i '{{with .State.Health}}{{.Status}}{{else}}none{{end}}|{{len .HostConfig.CapAdd}}|{{range .HostConfig.Mounts}}x{{end}}'
i '{{range $n, $c := .NetworkSettings.Networks}}{{$n}} {{$c.Links}} {{$c.Aliases}} {{$c.IPAMConfig}}{{end}}'
e inspect -f '{{.RepoTags}}|{{.Variant}}|{{.Config.Volumes}}|{{.Config.Healthcheck}}|{{.RepoDigests}}' busybox
e volume create vv
e volume inspect -f '{{.Labels}} {{.Options}} {{.Status}} {{json .Labels}}' vv
e volume rm vv
"""
    ),
    "durations": Case(
        script="""
e create --name hh --health-cmd true --health-interval 1500ms --health-timeout 1ms --health-start-period 1m5s busybox
e inspect -f '{{with .Config.Healthcheck}}{{.Timeout}} {{.Interval}} {{.StartPeriod}} {{.Retries}} {{json .}}{{end}}' hh
e inspect -f '{{with .Config.Healthcheck}}{{printf "%d %s %v" .Timeout .Interval .Interval}}{{end}}' hh
e inspect -f '{{eq .Config.Healthcheck.Timeout 1000000}}' hh
"""
    ),
    "mounts": Case(
        script="""
e create --name mm -v /anon -v $PWD:/host:ro -v named:/n --tmpfs /t busybox
e inspect -f '{{range .Mounts}}{{.Type}} {{.Driver}} {{.Mode}} {{.RW}} {{println .Destination}}{{end}}' mm | sort
e inspect -f '{{range .Mounts}}{{if ne .Destination "/anon"}}{{.Name}}{{end}}{{end}}' mm
q rm -v mm
q volume rm named
"""
    ),
    "containers": Case(
        script="""
e create --name aa -l x=y -p 80 busybox sh -c 'exit 3'
e create --name bb busybox sleep 100
e run --name cc busybox sh -c 'exit 3'
e ps -a --no-trunc --format '{{.Command}}|{{.Names}}|{{.Ports}}|{{.Image}}|{{.Mounts}}|{{.Networks}}'
e ps -a --format '{{.LocalVolumes}}|{{.State}}'
e ps -n 2 --format '{{.Names}}'
e ps -l --format '{{.Names}}'
e ps -aqs
e ps -as --format '{{.Size}} {{.Names}}'
e ps --filter nosuch=1
e ps -a --filter status=nosuch
e ps -a --filter exited=3 --format '{{.Names}}'
e ps -a --filter 'name=^/aa$' --format '{{.Names}}'
e ps -a --filter ancestor=busybox --filter label=x --format '{{.Names}}'
e ps -a --filter before=cc --filter is-task=false --format '{{.Names}}'
e ps -a --filter since=aa --format '{{.Names}}'
e ps -a --filter health=none --format '{{.Names}}'
e ps x
e ps --filter x
e ps -a --filter exited=x
e ps -n x
for verb in ls list ps; do e container $verb -aq; done
"""
    ),
    "usage": Case(
        script="""
e system df --format '{{.Type}} {{.TotalCount}} {{.Active}}' | head -3
e system df x
e create --name uu -v /anon busybox
e system df -v --format '{{range .Containers}}{{.Names}} {{.LocalVolumes}} {{.Size}} {{.Image}} {{.Status}}{{end}}'
e system df -v --format '{{range .Images}}{{.Repository}} {{.Containers}};{{end}}' | grep -o 'busybox 1'
e system df -v --format '{{len .Volumes}}'
e system prune -f --filter until=1h --volumes
e system prune x
e system prune -f --filter nosuch=1
q rm -v uu
e container prune -f --filter until=x
e container prune -f --filter nosuch=1
e info --format '{{.OSType}} {{.Containers}} {{.Swarm.LocalNodeState}} {{.Driver}} {{.LoggingDriver}} {{.Debug}}'
e info --format '{{.IndexServerAddress}} {{.Isolation}}'
e version --format '{{.Server.Os}} {{.Client.Arch}} {{.Server.Experimental}}'
e builder prune -f | cut -d : -f 1
""",
        says=('The "until" filter is not supported with "--volumes"',),
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_is_the_same(name: str, engines: tuple[Engine, Engine]) -> None:
    check(SHOWN[name], engines)
