"""What payloads print becomes samples, or a failure that says what they printed; and what each workload asks for."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.model import Sample
from lab.bench.workloads import cpu, disk, payload
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import defaults
from lab.bench.workloads.service import web_server
from lab.errors import WorkloadFailed
from lab.target.spec import Command, Execution, Footprint, NetworkMode, TargetSpec

LABELS = {"place": "data", "pattern": "randread", "io_depth": "1"}
# of fio 3.33, without what is not read
NOTHING: dict[str, Any] = {"io_bytes": 0, "bw_bytes": 0, "iops": 0.0, "total_ios": 0, "clat_ns": {"min": 0, "N": 0}}
READ = {
    "io_bytes": 3379200,
    "bw_bytes": 66258823,
    "iops": 16176.470588,
    "total_ios": 825,
    "clat_ns": {"min": 29055, "percentile": {"50.000000": 36096, "90.000000": 42240, "99.000000": 1335296}},
}
JOB: dict[str, Any] = {"jobname": "lab", "error": 0, "read": READ, "write": NOTHING, "trim": NOTHING}


def output(job: Mapping[str, Any]) -> bytes:
    return json.dumps({"fio version": "fio-3.33", "jobs": [job]}).encode()


def job(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(JOB), **changes}


def parse(text: bytes) -> list[Sample]:
    return list(disk.parse(text, LABELS))


def test_a_fio_job_gives_rate_operations_and_percentiles() -> None:
    found = {(s.metric, s.labels.get("percentile", "")): s.value for s in parse(output(JOB))}

    assert found == {
        ("io_rate", ""): 66258823,
        ("io_operations", ""): 16176.470588,
        ("io_latency", "50"): 36096,
        ("io_latency", "90"): 42240,
        ("io_latency", "99"): 1335296,
    }
    assert all(LABELS.items() <= sample.labels.items() for sample in parse(output(JOB)))


def test_warnings_before_the_document_are_passed_over() -> None:
    assert parse(b"fio: this platform does not support process shared mutexes\n" + output(JOB)) == parse(output(JOB))


def test_the_99th_percentile_of_few_operations_is_left_out() -> None:
    few = job(read={**READ, "total_ios": 299})

    assert [s.labels["percentile"] for s in parse(output(few)) if s.metric == "io_latency"] == ["50", "90"]


def test_a_mixed_job_gives_both_directions() -> None:
    assert [s.metric for s in parse(output(job(write=READ)))].count("io_rate") == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "fio printed no result"),
        (b"fio: engine libaio not loadable\n", "engine libaio not loadable"),
        (b"17", "fio printed no result"),
        (b"[]", "fio printed no result"),
        (b'{"jobs": []}', "fio printed no result"),
        (b'{"jobs": [17]}', "fio printed no result"),
        (b'{"jobs": [{"error": 0}]}', "'read' is missing"),
        (output(JOB)[:-20], "fio printed no result"),
        (b"\xff" + output(JOB)[1:], "fio printed no result"),
        (output(job(read={**READ, "iops": None})), "iops"),
        (output(job(read={**READ, "iops": float("nan")})), "NaN is no measurement"),
        (output(job(error=5)), "fio met error 5"),
        (output(job(read=NOTHING)), "not do one operation"),
    ],
)
def test_what_is_no_result_of_fio_is_a_failure_that_says_so(text: bytes, words: str) -> None:
    with pytest.raises(WorkloadFailed, match=words):
        parse(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*JOB, *READ]), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps({"jobs": [value]}).encode()))
def test_whatever_fio_prints_is_samples_or_a_failure(text: bytes) -> None:
    try:
        found = parse(text)
    except WorkloadFailed:
        return
    assert found


@given(st.sampled_from([*READ, "error"]), json_values)
def test_a_field_of_fios_that_is_something_else_is_samples_or_a_failure(name: str, value: object) -> None:
    broken = job(error=value) if name == "error" else job(read={**READ, name: value})
    try:
        found = parse(output(broken))
    except WorkloadFailed:
        return
    assert found


def test_a_computation_tells_its_time() -> None:
    assert cpu.parse_difference(b"123456789\n") == 123456789


@pytest.mark.parametrize("text", [b"", b"date: invalid option\n", b"12 13", b"1.5", b"\xff\xfe"])
def test_a_computation_that_tells_no_time_has_failed(text: bytes) -> None:
    with pytest.raises(WorkloadFailed, match="printed"):
        cpu.parse_difference(text)


@pytest.mark.parametrize("text", [b"0", b"-5"])
def test_a_clock_that_was_set_back_is_no_time(text: bytes) -> None:
    with pytest.raises(WorkloadFailed, match="went back"):
        cpu.parse_difference(text)


class Ends:
    """A target in which every command ends alike."""

    def __init__(self, *, exit_code: int, stdout: bytes = b"", stderr: bytes = b"") -> None:
        self.spec = TargetSpec(name="t", image="", command=Command(argv=("/x",)))
        self._execution = Execution(exit_code=exit_code, stdout=stdout, stderr=stderr)

    def start(self) -> None:
        raise NotImplementedError

    def exec(self, command: Command) -> Execution:
        del command
        return self._execution

    def footprint(self) -> Footprint:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def destroy(self) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (Ends(exit_code=3, stderr=b"it broke\n"), "/bin/x ended with code 3: it broke"),
        (Ends(exit_code=1, stdout=b"only this\n"), "code 1: only this"),
        (Ends(exit_code=127), "no such program in the image"),
        (Ends(exit_code=2, stderr=b"\xff" * 900), "code 2: "),
    ],
)
def test_a_payload_that_fails_is_told_with_what_it_said(target: Ends, words: str) -> None:
    with pytest.raises(WorkloadFailed, match=words) as caught:
        payload.execute(target, Command(argv=("/bin/x",)), lambda: 0)

    assert len(str(caught.value)) < 500


def test_a_payload_is_timed_from_before_to_after() -> None:
    ticks = iter((10, 25))

    assert payload.execute(Ends(exit_code=0), Command(argv=("/bin/x",)), lambda: next(ticks))[1] == 15


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_workload_is_judged_by_a_metric_that_is_declared(name: str) -> None:
    from lab.bench.trial import METRICS

    workload = WORKLOADS[name]
    metric, _ = workload.primary(defaults(workload))

    assert metric in {declared.name for declared in (*METRICS, *workload.metrics)}


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_workload_that_serves_asks_for_the_port_it_was_given_and_a_network(name: str) -> None:
    needs = WORKLOADS[name].needs(defaults(WORKLOADS[name]), 12345)

    assert needs.serves == ("12345" in str(needs.command.env))
    assert needs.network == (NetworkMode.BRIDGE if needs.serves else NetworkMode.NONE)


def test_the_web_server_listens_on_its_port_only() -> None:
    configuration = dict(web_server(8123).env)["CONFIGURATION"]

    assert configuration.count("listen") == 1
    assert "listen 8123;" in configuration


def test_a_disk_job_is_the_same_for_every_pattern_but_what_it_names() -> None:
    parameters = {**defaults(WORKLOADS["disk"]), "patterns": "randread, write", "io_depths": "1,4"}
    first = disk.command(parameters, "randread", "1").argv

    assert "--filename=/data/lab-fio" in first
    assert "--size=67108864" in first
    assert {"--direct=1", "--rw=randread", "--iodepth=1", "--output-format=json"} <= set(first)
    assert set(disk.command(parameters, "write", "4").argv) - set(first) == {"--rw=write", "--iodepth=4"}


def test_the_file_of_a_disk_job_is_made_by_the_very_job_that_is_not_run() -> None:
    job = disk.command(defaults(WORKLOADS["disk"]), "randread", "1")
    assert set(disk.laying_out(job).argv) - set(job.argv) == {"--create_only=1"}


def test_only_what_goes_past_the_page_cache_has_its_file_dropped_from_it() -> None:
    parameters = defaults(WORKLOADS["disk"])
    assert "--invalidate=1" in disk.command(parameters, "randread", "1").argv
    assert "--invalidate=0" in disk.command({**parameters, "direct": False}, "randread", "1").argv
    assert "if=/data/lab-fio" in disk.reading(parameters).argv
