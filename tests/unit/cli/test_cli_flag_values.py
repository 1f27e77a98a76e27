"""Values of flags, refused where docker's command line refuses them: before anything else is looked at."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest

from lab.cli.flag_values import UNLIMITED, duration_ns, size, size_or_unlimited
from lab.cli.main import verb_parser
from lab.cli.run_flags import options_of
from lab.cli.verbs import as_docker_reads
from lab.container.options.run import RunOptions
from lab.errors import SpecError
from lab.units import NS_PER_MS, NS_PER_S


def options(*words: str) -> RunOptions:
    parser, _ = verb_parser("container", "run", prog="lab run")
    return options_of(parser.parse_args(as_docker_reads(parser, words)))


def test_sizes_and_durations_are_what_they_mean() -> None:
    assert (size("512m"), size_or_unlimited("1k"), size_or_unlimited("-1")) == (512 << 20, 1024, UNLIMITED)
    assert [duration_ns(text) for text in ("0", "1m30s", "0.5ms", "-2s", "+1s")] == [
        *(0, 90 * NS_PER_S, NS_PER_MS // 2, -2 * NS_PER_S, NS_PER_S)
    ]
    for text in ("", "5d", "x", "--1s"):
        with pytest.raises(ArgumentTypeError, match=r"^time: invalid duration "):
            duration_ns(text)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--memory", "x"), 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (("-m", "-1"), 'invalid argument "-1" for "-m, --memory" flag: invalid size: \'-1\''),
        (("--stop-timeout", "x"), 'invalid argument "x" for "--stop-timeout" flag: strconv.ParseInt: parsing "x"'),
        (("--cpus", "x"), 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
        (
            ("--health-interval", "5"),
            'invalid argument "5" for "--health-interval" flag: time: missing unit in duration "5"',
        ),
    ],
)
@pytest.mark.parametrize("rest", [(), ("busybox", "true")], ids=["without-image", "with-image"])
def test_a_wrong_value_is_told_in_dockers_words_whatever_else_is_missing(
    words: tuple[str, ...], told: str, rest: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        options(*words, *rest)
    assert ended.value.code == 125
    assert told in capsys.readouterr().err


def test_a_value_may_begin_with_a_dash() -> None:
    found = options("--memory-swap", "-1", "-e", "-a=b", "--label", "--x", "busybox", "-c")
    assert (found.memory_swap_bytes, found.env, found.labels, found.command) == (-1, ("-a=b",), {"--x": ""}, ("-c",))


def test_times_of_a_health_check_that_are_nothing_leave_it_to_the_image_and_negative_ones_are_refused() -> None:
    assert options("--health-interval", "0", "busybox").healthcheck is None
    found = options("--health-interval", "0s", "--health-timeout", "2s", "busybox").healthcheck
    assert found is not None
    assert (found.interval, found.timeout) == (0, 2 * NS_PER_S)
    with pytest.raises(SpecError, match=r"^--health-timeout cannot be negative$"):
        options("--health-timeout", "-1s", "busybox")
    with pytest.raises(SpecError, match="conflicts with --health"):
        options("--no-healthcheck", "--health-retries", "1", "busybox")
