"""The guest without a kernel: what QEMU must find in its file."""

from __future__ import annotations

import struct

from lab.vm.domain_xml import MARKER_IO_PORT
from lab.vm.floor import program


def test_its_file_has_the_note_by_which_qemu_enters_it_and_the_code_at_that_address() -> None:
    file = program()
    assert file[:6] == b"\x7fELF\x01\x01"
    entry, first_header = struct.unpack_from("<II", file, 24)
    size, count = struct.unpack_from("<HH", file, 42)
    segments = [struct.unpack_from("<8I", file, first_header + index * size) for index in range(count)]
    (load,) = [segment for segment in segments if segment[0] == 1]
    (note,) = [segment for segment in segments if segment[0] == 4]
    name_bytes, text_bytes, kind = struct.unpack_from("<III", file, note[1])
    assert (name_bytes, text_bytes, kind) == (4, 4, 18)
    assert struct.unpack_from("<I", file, note[1] + 16) == (entry,)
    assert load[2] == entry
    assert file[load[1] : load[1] + 4] == bytes((0xB0, ord("U"), 0xE6, MARKER_IO_PORT))
    assert len(file) == note[1] + note[4]
