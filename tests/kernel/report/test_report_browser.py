"""The page in a real browser, from a file, offline: no console message, nothing loaded from elsewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from unit.report import synthetic_runs as synthetic

from lab.paths import Paths
from lab.report.build import ReportFormat, build
from lab.target import doctor

pytestmark = pytest.mark.needs("chromium")

# what the browser itself would ask its maker is turned off: only the page's own requests are of interest
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1280,2000",
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    synthetic.write_run(directory)
    return Path(build(str(directory), str(directory / "report"), (ReportFormat.HTML,))[0])


def browse(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    finding = doctor.examine(doctor.find_check("chromium"), Paths.default())
    program = dict(finding.availability.facts)["program"]
    argv = [program, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_the_page_opens_from_a_file_without_a_console_message(page: Path, tmp_path: Path) -> None:
    done = browse(page, tmp_path / "profile", "--dump-dom")

    assert done.returncode == 0, done.stderr
    assert "What the data says about the claims" in done.stdout
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []


def test_a_console_error_would_be_seen(tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text("<script>throw new Error('planted')</script>")

    done = browse(broken, tmp_path / "profile", "--dump-dom")

    assert any(":CONSOLE" in line and "planted" in line for line in done.stderr.splitlines())


def test_the_page_loads_nothing_from_elsewhere(page: Path) -> None:
    # read from the text: the browser's own log is full of what it asks its maker
    text = page.read_text()
    loads = re.findall(
        r"""(?:\bsrc|<link[^>]*\bhref)\s*=\s*["']?(?!data:|#)[^"'\s>]+|@import|url\(["']?(?!data:|#)""", text
    )
    assert loads == []


def test_the_page_can_be_pictured(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"

    browse(page, tmp_path / "profile", f"--screenshot={picture}")

    assert picture.stat().st_size > 50_000
