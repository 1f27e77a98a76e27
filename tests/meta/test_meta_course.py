"""What the course's notes do with containers is tested: each line of theirs names the test that does it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernel.examples.walkthrough import PAGES

TESTS = Path(__file__).resolve().parents[1]
EXAMPLES = TESTS.parent / "examples"
COURSE = {
    # build
    "build .": "test_build_command.py",
    "build -t name:tag .": "examples/node-web-app",
    "build --build-arg": "test_docker_and_we_build_the_same_image",
    "Dockerfile instructions": "test_docker_and_we_build_the_same_image",
    "layers are cached, a changed one makes those after it anew": "test_build_cache.py",
    "dependencies before code keep the cache": "examples/node-web-app",
    ".dockerignore": "test_the_ignore_file_decides_what_is_in_the_context",
    "an image is read-only": "test_busybox_runs_on_an_overlay_of_the_image",
    "history shows layers and ENV": "test_the_same_commands_give_the_same_words_and_exit_codes",
    # images
    "images, -f dangling=true, rmi, tag, image inspect": "test_images_are_the_same",
    "image prune": "test_the_same_commands_give_the_same_words_and_exit_codes",
    "push, pull, login, logout": "test_clients_registry.py",
    "Docker Hub's names": "test_dockers_names_come_from_a_mirror",
    "private registries": "test_what_is_pushed_is_pulled_and_run_elsewhere",
    "images for several platforms": "test_registry_platforms.py",
    "save, load": "test_saving_by_a_bare_name_takes_all_its_tags_and_by_id_none",
    "import, export": "test_what_happens_to_files_is_the_same",
    # run
    "run attached, --rm, -w, --entrypoint, -e, --env-file": "test_running_is_the_same",
    "run -d, start -a, stop, restart, kill, pause, wait": "test_the_life_of_a_container_is_the_same",
    "rename, logs, exec, attach": "test_the_life_of_a_container_is_the_same",
    "run -it": "test_containers_terminal.py",
    "run -p": "test_network_ports.py",
    "run -v": "examples/feedback",
    "run --memory, --cpus, --pids-limit; update": "test_limits_are_the_same",
    "ids may be shortened": "test_a_container_is_known_by_name_by_id_and_by_the_beginning_of_its_id",
    "names are unique": "test_no_two_containers_have_one_name",
    "rm, cp, diff, commit": "test_what_happens_to_files_is_the_same",
    "ps, inspect, stats, top": "test_containers_show.py",
    "logs -f": "test_containers_log.py",
    "--help everywhere": "test_every_help_can_be_shown_and_has_an_example",
    "every verb and flag": "test_every_flag_that_is_not_there_is_told_with_its_reason",
    # data
    "the container's layer goes with it, volumes do not": "examples/feedback",
    "what runs writes apart from the image; volumes outlive containers": "docs/explanation/where-data-lives.md",
    "anonymous volumes go with --rm alone": "test_anonymous_volumes_go_with_rm_alone",
    "where mounts nest, the longer path wins": "test_of_nested_mounts_the_longer_path_wins",
    "a new volume takes the image's content": "test_a_new_volume_takes_the_images_content_with_owner_mode_and_links",
    "volume ls, create, inspect, rm, prune": "test_clients_volumes.py",
    # network
    "container to the web, to the host, to another container": "examples/favourites",
    "network create, --network, names of containers": "docs/how-to/connect-containers.md",
    # several containers
    "database, backend, front end by hand": "examples/goals",
    "a PHP stack, with its package and task tools": "examples/php-stack",
    # environment
    "ENV, --env, --env-file": "test_running_is_the_same",
    "a setting for one container": "examples/feedback",
    # utility containers
    "run -it -v $(pwd):/app IMAGE npm init": "examples/utility-containers",
    "ENTRYPOINT as the command": "examples/utility-containers",
    "exec -it CONTAINER npm init": "examples/utility-containers",
}
"""What the notes do, and where it is tested: by a test, a file of tests, or a page that is one, example or document."""


@pytest.fixture(scope="module")
def tested() -> set[str]:
    files = list(TESTS.rglob("test_*.py"))
    functions = {name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    examples = {f"examples/{path.parent.name}" for path in EXAMPLES.glob("*/README.md")}
    return {path.name for path in files} | functions | examples | {f"docs/{page}" for page in PAGES}


def test_everything_in_the_course_has_a_test(tested: set[str]) -> None:
    assert {line: where for line, where in COURSE.items() if where not in tested} == {}
