"""The image and the compose file, checked as far as that goes without Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from outlay._cli.main import all_parsers
from outlay._model.settings import Settings
from outlay.server import ServerSettings
from tests.support.processes import environment
from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "examples" / "deploy"
DOCKERFILE: Final = (FOLDER / "Dockerfile").read_text("utf-8").replace("\\\n", "")
SERVICES: Final[dict[str, Any]] = {
    name: service
    for name, service in yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))[
        "services"
    ].items()
    if "build" in service  # the image of outlay, and not PostgreSQL's
}

VARIABLES: Final = {f"OUTLAY_{name.upper()}" for name in Settings.model_fields} | {
    f"OUTLAY_SERVER_{name.upper()}" for name in ServerSettings.model_fields
}


def instruction(name: str) -> str:
    """Return the arguments of the Dockerfile's last instruction with this name."""
    *_, arguments = re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)
    return str(arguments)


def containers() -> list[dict[str, Any]]:
    """Return the containers of the manifests on the page about Kubernetes."""
    page = (ROOT / "docs" / "how-to" / "kubernetes.md").read_text("utf-8")
    pods = [
        yaml.safe_load(manifest)["spec"]["template"]["spec"]
        for manifest in re.findall(r"^```yaml\n(.*?)^```$", page, re.M | re.S)
    ]
    return [
        container
        for pod in pods
        for container in (*pod["containers"], *pod.get("initContainers", ()))
    ]


def image_variables() -> dict[str, str]:
    """Return the variables that the image sets."""
    pairs = (word.partition("=") for word in shlex.split(instruction("ENV")))
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_an_ordinary_user_without_rights(name: str) -> None:
    """A hole in a dependency must not become one in the host."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert int(instruction("USER")) > 0


@pytest.mark.parametrize("name", SERVICES)
def test_each_variable_is_a_setting(name: str) -> None:
    """A misspelled variable is ignored, and the service runs with its defaults."""
    variables = {*SERVICES[name]["environment"], *image_variables()}

    assert {each for each in variables if each.startswith("OUTLAY_")} <= VARIABLES


@pytest.mark.parametrize(
    "words",
    [service["command"] for service in SERVICES.values() if "command" in service],
)
def test_each_command_is_understood(words: list[str]) -> None:
    """A container that prints its usage is restarted without end."""
    command, *arguments = words

    all_parsers()[command].parse_args(arguments)


@pytest.mark.parametrize("container", containers(), ids=lambda each: str(each["name"]))
def test_each_container_of_the_kubernetes_page_is_understood(
    container: dict[str, Any],
) -> None:
    """Readers copy the manifests, and change the image's name only."""
    assert {each["name"] for each in container["env"]} <= VARIABLES
    if "args" in container:
        command, *arguments = container["args"]
        all_parsers()[command].parse_args(arguments)


def test_what_the_image_installs_exists() -> None:
    """Pip only warns of an extra that does not exist."""
    (extras,) = re.findall(r"pip install --no-cache-dir '\.\[(.+?)\]'", DOCKERFILE)
    project = (ROOT / "pyproject.toml").read_text("utf-8")

    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
    for path in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / each).exists() for each in path.split())


def test_the_server_of_the_image_runs_on_a_read_only_root(tmp_path: Path) -> None:
    """All that the server writes must be in the volume."""
    if not can_mount():
        pytest.skip("this user may not mount in a namespace of its own")
    with image_server(tmp_path) as variables:
        check = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
        port = variables["OUTLAY_SERVER_PORT"]
        health = [word.replace(":4600/", f":{port}/") for word in check[1:]]

        ran = subprocess.run([sys.executable, *health], check=False)

    assert ran.returncode == 0
    assert (tmp_path / "outlay.db").exists()


def can_mount() -> bool:
    """Return whether this user may mount in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "mount", "-o", "remount,ro,bind", "/"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def image_server(data: Path) -> Iterator[Mapping[str, str]]:
    """Run the image's command, with its variables, where only ``data`` is writable."""
    variables = {
        name: value.replace("/data", str(data))
        for name, value in image_variables().items()
        if name != "PATH"
    }
    variables |= {
        "OUTLAY_SERVER_PORT": str(free_port()),
        "OUTLAY_SERVER_API_KEY": "sk_" + "0" * 32,
    }
    words = json.loads(instruction("CMD"))
    program = shlex.join([sys.executable, "-m", "outlay", *words])
    folder = shlex.quote(str(data))
    script = (
        f"mount --bind {folder} {folder} && mount -o remount,ro,bind / "
        f"&& ! touch /written 2> /dev/null && exec {program} 2>&1"
    )
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=data,
        env=environment({**variables, "HOME": os.devnull}),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        shown = ""
        for line in process.stdout:
            shown += line
            if variables["OUTLAY_SERVER_PORT"] in line:
                break
        else:
            pytest.fail(f"the server does not start:\n{shown}")
        yield variables
    finally:
        process.terminate()
        process.communicate()
