"""Where the lab keeps things: by variable, by user, by --root."""

from __future__ import annotations

import pytest

from lab.errors import SpecError
from lab.paths import Paths, docker_host, layer_limits


def test_a_root_directory_holds_everything() -> None:
    paths = Paths.under("/somewhere")
    assert (paths.root, paths.cache, paths.run) == ("/somewhere", "/somewhere/cache", "/somewhere/run")


def test_a_relative_root_is_made_absolute() -> None:
    assert Paths.under("here").root.startswith("/")


def test_root_uses_the_system_directories() -> None:
    paths = Paths.default({}, uid=0)
    assert (paths.root, paths.cache, paths.run) == ("/var/lib/lab", "/var/cache/lab", "/run/lab")


def test_a_user_gets_the_xdg_directories() -> None:
    paths = Paths.default({"HOME": "/home/me"}, uid=1000)
    assert (paths.root, paths.cache) == ("/home/me/.local/share/lab", "/home/me/.cache/lab")


def test_the_xdg_variables_move_a_users_directories() -> None:
    env = {"HOME": "/home/me", "XDG_DATA_HOME": "/d", "XDG_CACHE_HOME": "/c", "XDG_RUNTIME_DIR": "/r"}
    paths = Paths.default(env, uid=1000)
    assert (paths.root, paths.cache, paths.run) == ("/d/lab", "/c/lab", "/r/lab")


def test_lab_root_wins_over_everything_for_every_user() -> None:
    for uid in (0, 1000):
        assert Paths.default({"LAB_ROOT": "/x", "XDG_DATA_HOME": "/d"}, uid=uid).root == "/x"


def test_every_directory_lies_below_root_cache_or_run() -> None:
    paths = Paths.default({}, uid=0)
    names = [name for name, value in vars(Paths).items() if isinstance(value, property)]
    for name in names:
        assert getattr(paths, name).startswith((paths.root + "/", paths.cache + "/", paths.run + "/")), name


def test_the_docker_daemon_is_the_one_that_the_environment_names() -> None:
    assert docker_host({"DOCKER_HOST": "unix:///d.sock"}) == "unix:///d.sock"
    assert docker_host({}) == ""


def test_limits_of_layers_are_those_that_the_user_has_set() -> None:
    assert layer_limits({}) == {}
    assert layer_limits({"LAB_LAYER_BYTES_MAX": "1GiB"}) == {"size_bytes": 1024**3}


def test_a_limit_that_is_no_number_is_told_with_its_variable() -> None:
    with pytest.raises(SpecError, match="LAB_LAYER_ENTRIES_MAX: not a size"):
        layer_limits({"LAB_LAYER_ENTRIES_MAX": "many"})
