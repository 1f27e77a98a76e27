"""The pages of examples that take long, themselves or their images, are true as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..containers.conftest import Lab
from .walking import does_what_its_page_says
from .walkthrough import LONG_PAGES


@pytest.mark.root
@pytest.mark.needs("mmdebstrap")
@pytest.mark.needs("overlay")
@pytest.mark.needs("dnsmasq")
@pytest.mark.parametrize(("name", "page"), LONG_PAGES)
def test_a_long_example_does_what_its_page_says(
    name: str, page: str, lab: Lab, base_archive: Callable[[str], str], tmp_path: Path
) -> None:
    does_what_its_page_says(name, lab, base_archive, tmp_path, page)
