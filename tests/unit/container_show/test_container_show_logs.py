"""Logs: from their end, from an instant, across rotation, in pieces that belong to a line; on real files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.container import log_file, log_packing, log_place, logs
from lab.container.log_file import LOG_FILE, entries, timestamp
from lab.container.logs import Reader, Wanted

SECOND = 1_000_000_000


def read(bundle: Path, wanted: Wanted) -> tuple[bytes, bytes]:
    """Return what goes to standard output and to standard error."""
    with Reader(str(bundle), wanted) as reader:
        pieces = list(reader.pieces())
    return tuple(b"".join(data for to_error, data in pieces if to_error is kind) for kind in (False, True))  # type: ignore[return-value] # two of them


def write(bundle: Path, *texts: tuple[str, bytes], name: str = LOG_FILE) -> None:
    with (bundle / name).open("ab") as file:
        for number, (stream, data) in enumerate(texts):
            file.write(entries(stream, data, number * SECOND))


def test_each_stream_goes_where_it_came_from(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"out\n"), ("stderr", b"err\n"), ("stdout", b"more\n"))
    assert read(tmp_path, Wanted()) == (b"out\nmore\n", b"err\n")


def test_pieces_keep_the_order_of_the_streams(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"a\nb\n"), ("stderr", b"c\n"), ("stdout", b"d\n"))
    with Reader(str(tmp_path), Wanted()) as reader:
        assert list(reader.pieces()) == [(False, b"a\nb\n"), (True, b"c\n"), (False, b"d\n")]


def test_a_line_that_came_in_parts_has_one_time(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"first\nbe"), ("stdout", b"gun\n"), ("stdout", b"open"))
    expected = f"{timestamp(0)} first\n{timestamp(0)} begun\n{timestamp(2 * SECOND)} open"
    assert read(tmp_path, Wanted(timestamps=True))[0] == expected.encode()


def test_details_come_between_the_time_and_the_text(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"text\n"))
    assert read(tmp_path, Wanted(timestamps=True, details="a=b"))[0] == f"{timestamp(0)} a=b text\n".encode()
    assert read(tmp_path, Wanted(details=""))[0] == b" text\n"


def test_instants_limit_it_on_both_sides_and_belong_to_it(tmp_path: Path) -> None:
    write(tmp_path, *(("stdout", f"{number}\n".encode()) for number in range(6)))
    assert read(tmp_path, Wanted(since_ns=2 * SECOND, until_ns=4 * SECOND))[0] == b"2\n3\n4\n"


def test_after_the_last_wanted_instant_nothing_more_is_read(tmp_path: Path) -> None:
    write(tmp_path, *(("stdout", f"{number}\n".encode()) for number in range(6)))
    with Reader(str(tmp_path), Wanted(until_ns=SECOND)) as reader:
        assert b"".join(data for _, data in reader.pieces()) == b"0\n1\n"
        assert reader.is_beyond


def test_what_has_been_rotated_away_comes_first(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"oldest\n"), name=f"{LOG_FILE}.10")
    write(tmp_path, ("stdout", b"older\n"), name=f"{LOG_FILE}.2")
    write(tmp_path, ("stdout", b"old\n"), name=f"{LOG_FILE}.1")
    write(tmp_path, ("stdout", b"new\n"))
    assert read(tmp_path, Wanted())[0] == b"oldest\nolder\nold\nnew\n"
    assert read(tmp_path, Wanted(tail=3))[0] == b"older\nold\nnew\n"


def test_reading_goes_on_over_a_rotation(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"one\n"))
    with Reader(str(tmp_path), Wanted()) as reader:
        assert _text(reader.pieces()) == b"one\n"
        write(tmp_path, ("stdout", b"two\n"))
        os.rename(tmp_path / LOG_FILE, tmp_path / f"{LOG_FILE}.1")
        write(tmp_path, ("stdout", b"three\n"))
        assert _text(reader.pieces()) == b"two\nthree\n"


def test_reading_goes_on_when_the_file_that_was_read_has_been_dropped(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"one\n"))
    with Reader(str(tmp_path), Wanted()) as reader:
        assert _text(reader.pieces()) == b"one\n"
        os.unlink(tmp_path / LOG_FILE)
        write(tmp_path, ("stdout", b"two\n"), name=f"{LOG_FILE}.1")
        write(tmp_path, ("stdout", b"three\n"))
        assert _text(reader.pieces()) == b"two\nthree\n"


def test_an_entry_that_is_just_being_written_is_left_for_later(tmp_path: Path) -> None:
    whole = entries("stdout", b"begun\n", 0)
    write(tmp_path, ("stdout", b"done\n"))
    with Reader(str(tmp_path), Wanted()) as reader, (tmp_path / LOG_FILE).open("ab", buffering=0) as file:
        file.write(whole[:20])
        assert _text(reader.pieces()) == b"done\n"
        file.write(whole[20:])
        assert _text(reader.pieces()) == b"begun\n"


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    assert read(tmp_path, Wanted(tail=3)) == (b"", b"")


def _text(pieces: Iterable[logs.Piece]) -> bytes:
    return b"".join(data for _, data in pieces)


lines = st.lists(st.tuples(st.sampled_from(("stdout", "stderr")), st.binary(max_size=30)), max_size=30)


@given(lines, st.integers(0, 12), st.integers(1, 200), st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_end_of_a_log_is_its_last_lines_whatever_the_blocks_are(
    tmp_path: Path, texts: list[tuple[str, bytes]], tail: int, block_bytes: int, files: int
) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    names = [f"{LOG_FILE}.{number}" for number in range(files, 0, -1)] + [LOG_FILE]
    whole = [(stream, data.replace(b"\n", b"") + b"\n") for stream, data in texts]
    for index, text in enumerate(whole):
        write(tmp_path, text, name=names[index * len(names) // len(whole)])
    (tmp_path / LOG_FILE).touch()
    expected = whole[len(whole) - tail :] if tail < len(whole) else whole
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "_BLOCK_BYTES", max(block_bytes, 80))  # no entry here is longer
        found = read(tmp_path, Wanted(tail=tail))
    streams = [b"".join(data for stream, data in expected if stream == name) for name in ("stdout", "stderr")]
    assert list(found) == streams


def test_a_line_that_has_been_begun_counts_as_the_last_one(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"one\ntwo\nbegun"))
    assert read(tmp_path, Wanted(tail=1))[0] == b"begun"
    assert read(tmp_path, Wanted(tail=2))[0] == b"two\nbegun"


def test_a_place_in_a_log_is_the_beginning_of_what_comes_later_also_when_it_is_put_away(tmp_path: Path) -> None:
    write(tmp_path, ("stdout", b"before\n"))
    place = log_place.Place(str(tmp_path), log_place.size_bytes(str(tmp_path)))
    try:
        write(tmp_path, ("stdout", b"after\n"))
        (tmp_path / LOG_FILE).rename(tmp_path / f"{LOG_FILE}.1")
        write(tmp_path, ("stderr", b"newer\n"))
        end = log_place.size_bytes(str(tmp_path))
        write(tmp_path, ("stdout", b"beyond\n"))
        with Reader(str(tmp_path), Wanted(), since=place, end_bytes=end) as reader:
            assert list(reader.pieces()) == [(False, b"after\n"), (True, b"newer\n")]
            write(tmp_path, ("stdout", b"far beyond\n"))
            assert list(reader.pieces()) == []
    finally:
        place.close()


def test_a_container_without_log_has_no_place_in_it(tmp_path: Path) -> None:
    assert log_place.size_bytes(str(tmp_path)) == 0
    with pytest.raises(FileNotFoundError):
        log_place.Place(str(tmp_path), 0)


@pytest.mark.parametrize("tail", [None, 5, 40])
def test_files_that_were_put_away_and_compressed_are_read_as_if_they_were_not(tmp_path: Path, tail: int | None) -> None:
    (tmp_path / log_file.LIMITS_FILE).write_text("500 4 1")
    packed: list[int] = []

    def pack() -> None:
        log_packing.pack(str(tmp_path))
        packed.append(1)

    log = log_file.Log(str(tmp_path), pack)
    expected = [b"line %d\n" % number for number in range(60)]
    for line in expected:
        log.append("stdout", line)
    log.close()
    names = sorted(name for name in os.listdir(tmp_path) if name.startswith(LOG_FILE))
    assert names == [LOG_FILE, *(f"{LOG_FILE}.{number}.gz" for number in (1, 2, 3))]
    out, _ = read(tmp_path, Wanted(tail=tail))
    lines = out.splitlines(keepends=True)
    assert lines == expected[-len(lines) :]
    assert len(lines) == (tail if tail == 5 else len(lines))
    assert len(packed) > 3


def test_reading_goes_on_when_what_was_read_has_been_compressed(tmp_path: Path) -> None:
    (tmp_path / log_file.LIMITS_FILE).write_text("100 9 1")
    log = log_file.Log(str(tmp_path), lambda: log_packing.pack(str(tmp_path)))
    with Reader(str(tmp_path), Wanted()) as reader:
        found = []
        for number in range(20):
            log.append("stdout", b"%d\n" % number)
            if number % 3 == 0:
                found += [data for _, data in reader.pieces()]
        found += [data for _, data in reader.pieces()]
    log.close()
    assert b"".join(found) == b"".join(b"%d\n" % number for number in range(20))


def test_a_file_waits_to_be_put_away_while_others_are_compressed(tmp_path: Path) -> None:
    (tmp_path / log_file.LIMITS_FILE).write_text("100 2 1")
    log = log_file.Log(str(tmp_path))
    lock = log_file.lock_names(str(tmp_path), waits=True)
    assert lock is not None
    for number in range(9):
        log.append("stdout", b"%d\n" % number)
    assert not (tmp_path / f"{LOG_FILE}.1").exists()
    os.close(lock)
    log.append("stdout", b"9\n")
    log.close()
    assert read(tmp_path, Wanted())[0] == b"".join(b"%d\n" % number for number in range(10))
    log_packing.pack(str(tmp_path))
    assert read(tmp_path, Wanted())[0] == b"".join(b"%d\n" % number for number in range(10))
