"""The samples in deploy/ agree with the product: commands, flags, ports, times; and nothing runs as root."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from ray.runtime_env import RuntimeEnv

from saerec_ray import cli
from saerec_server.serve import GRACE_SECONDS
from saerec_server.settings import ServerSettings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
YAML_FILES = sorted(DEPLOY.glob("*.yaml"))
PORT = ServerSettings.model_fields["port"].default
MARGIN_SECONDS = 5


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text("utf-8")))


def document(kind: str) -> Any:
    """The one Kubernetes object of a kind, in whichever file."""
    (found,) = (
        each for path in YAML_FILES for each in documents(path.name) if each and each.get("kind") == kind
    )
    return found


def values(node: Any, key: str) -> Iterator[Any]:
    """Every value under this key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from values(value, key)
    elif isinstance(node, list):
        for each in node:
            yield from values(each, key)


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The parameters of `saerec ...`, parsed by the command itself but not run; wrong ones raise."""
    group: Any = typer.main.get_command(cli.app)
    command = group.commands[arguments[0]]
    parameters: dict[str, Any] = command.make_context(arguments[0], arguments[1:]).params
    return parameters


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: path.name)
def test_every_file_parses_and_begins_with_what_it_is_for(path: Path) -> None:
    found = documents(path.name)
    assert found
    assert all(found), "an empty document"
    assert path.read_text("utf-8").startswith("# ")


def test_the_page_names_every_file_and_no_other() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8").partition("## Images")[0]
    named = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))
    assert named == {path.name for path in DEPLOY.iterdir()} - {"Dockerfile.dockerignore"}


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    found: dict[str, list[tuple[str, str]]] = {}
    current = "before"
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            current = rest.split()[-1]
        found.setdefault(current, []).append((instruction, rest))
    return found


@pytest.mark.parametrize("target", ["server", "trainer"])
def test_an_image_ends_as_a_user_that_is_not_root(target: str) -> None:
    users = [rest for instruction, rest in stages()[target] if instruction == "USER"]
    assert users
    assert int(users[-1]) > 0
    assert f"useradd --uid {users[-1]}" in " ".join(rest for _, rest in stages()["runtime"])


def test_the_server_image_serves_on_the_port_it_exposes() -> None:
    server = dict(stages()["server"])
    entrypoint, command = yaml.safe_load(server["ENTRYPOINT"]), yaml.safe_load(server["CMD"])
    assert entrypoint == ["saerec"]
    assert command[0] == "serve"
    parameters = parsed(command)
    assert str(parameters["port"]) == server["EXPOSE"] == str(PORT)
    assert parameters["host"] == "0.0.0.0"


def test_the_images_install_extras_that_exist_and_the_torch_that_is_supported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r'"\.\[(\w+)\]"', text)) == {"serve", "train"} <= set(project)
    (torch,) = re.findall(r'"(torch[^"]*)"', text)
    assert torch in project["serve"]
    (model,) = set(re.findall(r'TEXT_MODEL="([^"]+)"', text))
    assert model in project["demo"]


def test_the_images_copy_only_what_exists_and_what_the_ignore_file_lets_through() -> None:
    copied = {
        source
        for instruction, rest in stages()["build"]
        if instruction == "COPY"
        for source in rest.split()[:-1]
    }
    assert copied
    assert all((ROOT / source).exists() for source in copied)
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in let_through if line.startswith("!")} == copied


def test_a_login_shell_of_the_images_finds_their_programs_first(tmp_path: Path) -> None:
    profile = tmp_path / "saerec.sh"
    (written,) = (rest for _, rest in stages()["runtime"] if "/etc/profile.d/" in rest)
    subprocess.run(["sh", "-c", written.replace("/etc/profile.d/saerec.sh", str(profile))], check=True)
    shell = f"PATH=/usr/local/bin:/usr/bin:/bin; . {profile}; echo $PATH"  # as Debian's /etc/profile does
    path = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout.strip()
    assert path == "/opt/saerec/bin:/usr/local/bin:/usr/bin:/bin"
    (environment,) = (rest for each, rest in stages()["runtime"] if each == "ENV")
    assert f"PATH={path.partition(':')[0]}:$PATH" in environment.split()
    for target in ("server", "trainer"):
        assert f"COPY --from=build-{target} /opt/saerec /opt/saerec" in [
            " ".join(line) for line in stages()[target]
        ]


def container(kind: str) -> Any:
    (only,) = document(kind)["spec"]["template"]["spec"]["containers"]
    return only


def test_the_deployment_starts_the_server_with_flags_it_has() -> None:
    server = container("Deployment")
    parameters = parsed(server["args"])
    assert parameters["host"] == "0.0.0.0"
    mounts = {mount["mountPath"]: mount for mount in server["volumeMounts"]}
    assert mounts["/shared"]["readOnly"]
    assert Path(parameters["bundle"]).is_relative_to("/shared")
    assert Path(parameters["state"]).is_relative_to("/state")
    assert "/tmp" in mounts, "the rest of the file system is read-only"


def test_all_ports_agree() -> None:
    server = container("Deployment")
    assert parsed(server["args"])["port"] == PORT
    assert [port["containerPort"] for port in server["ports"]] == [PORT]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["grpc"]["port"] == PORT
    (port,) = document("Service")["spec"]["ports"]
    assert port["port"] == PORT
    assert port["targetPort"] == server["ports"][0]["name"]
    (ingress,) = document("NetworkPolicy")["spec"]["ingress"]
    assert [each["port"] for each in ingress["ports"]] == [PORT]
    upstream = list(values(documents("envoy.yaml")[0]["static_resources"]["clusters"], "socket_address"))
    assert upstream == [{"address": document("Service")["metadata"]["name"], "port_value": PORT}]


def test_the_server_has_time_to_drain_before_it_is_killed() -> None:
    pod = document("Deployment")["spec"]["template"]["spec"]
    drain = parsed(container("Deployment")["args"])["drain_seconds"]
    assert pod["terminationGracePeriodSeconds"] >= drain + GRACE_SECONDS + MARGIN_SECONDS
    readiness = container("Deployment")["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] < drain, "balancers notice in time"


def pods() -> list[Any]:
    cluster = document("RayJob")["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [document("Deployment")["spec"]["template"], *(group["template"] for group in groups)]


def test_no_pod_runs_as_root_or_can_become_it() -> None:
    assert len(pods()) == 3
    for pod in pods():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == int(dict(stages()["server"])["USER"])
        assert context["seccompProfile"]["type"] == "RuntimeDefault"
        assert pod["spec"]["automountServiceAccountToken"] is False
        for each in pod["spec"]["containers"]:
            assert each["securityContext"]["allowPrivilegeEscalation"] is False
            assert each["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert each["resources"]["limits"]["memory"]


def test_labels_and_volumes_that_are_named_exist() -> None:
    deployment = document("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert document("Service")["spec"]["selector"] == labels
    assert document("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert document("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    claims = {each["metadata"]["name"] for each in documents("storage.yaml")}
    for pod in pods():
        assert set() < set(values(pod, "claimName")) <= claims
        names = {volume["name"] for volume in pod["spec"]["volumes"]}
        assert {mount["name"] for each in values(pod, "volumeMounts") for mount in each} == names


def test_one_process_owns_the_state() -> None:
    deployment = document("Deployment")["spec"]
    assert deployment["replicas"] == 1
    assert deployment["strategy"]["type"] == "Recreate"


def test_the_ray_job_runs_a_command_that_exists_on_storage_that_every_pod_mounts() -> None:
    job = document("RayJob")["spec"]
    program = shlex.split(job["entrypoint"])
    assert program[:3] == ["python", "-m", "saerec_ray"]
    parameters = parsed(program[3:])
    for given in (parameters["config"], parameters["workdir"]):
        assert Path(given).is_relative_to("/shared")
    for pod in pods()[1:]:
        (mounts,) = values(pod, "volumeMounts")
        assert "/shared" in {mount["mountPath"] for mount in mounts}
    bundle = Path(parsed(container("Deployment")["args"])["bundle"])
    assert bundle == Path(parameters["workdir"]) / "bundle", "what is trained is what is served"


def test_the_ray_job_cleans_up_and_is_tried_again_by_the_cluster_not_by_the_submitter() -> None:
    job = document("RayJob")["spec"]
    assert job["submissionMode"] == "K8sJobMode"
    assert job["shutdownAfterJobFinishes"] is True
    assert job["ttlSecondsAfterFinished"] > 0 < job["activeDeadlineSeconds"]
    assert job["backoffLimit"] > job["submitterConfig"]["backoffLimit"] == 0


def test_ray_accepts_the_runtime_environment_and_it_leaves_out_what_is_large() -> None:
    (environment,) = documents("runtime_env.yaml")
    assert RuntimeEnv(**environment)["excludes"] == environment["excludes"]
    assert {"/.venv/", "/out/", "/data/", "/.git/"} <= set(environment["excludes"])
    assert not {"/saerec_ray/", "/server/"} & set(environment["excludes"])


def test_the_commands_in_the_page_and_the_comments_exist() -> None:
    texts = [
        (ROOT / "docs" / "deploy.md").read_text("utf-8"),
        (DEPLOY / "runtime_env.yaml").read_text("utf-8"),
    ]
    for text in texts:
        shown = re.findall(r"python -m saerec_ray (.+)", text)
        assert shown
        for command in shown:
            parsed(shlex.split(command.strip()))


def test_envoy_ends_tls_and_asks_for_a_token_on_every_call_but_health() -> None:
    (listener,) = documents("envoy.yaml")[0]["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    assert chain["transport_socket"]["name"] == "envoy.transport_sockets.tls"
    manager = chain["filters"][0]["typed_config"]
    tokens, router = manager["http_filters"]
    assert router["name"] == "envoy.filters.http.router"
    rules = tokens["typed_config"]["rules"]
    free = [rule["match"]["prefix"] for rule in rules if "requires" not in rule]
    assert free == ["/grpc.health.v1.Health/"]
    assert rules[-1]["match"]["prefix"] == "/"
    assert rules[-1]["requires"]["provider_name"] in tokens["typed_config"]["providers"]


def test_envoy_lets_the_services_through_and_nothing_else() -> None:
    (listener,) = documents("envoy.yaml")[0]["static_resources"]["listeners"]
    (host,) = next(values(listener, "virtual_hosts"))
    prefixes = [route["match"]["prefix"] for route in host["routes"]]
    services = re.findall(
        r"^package (\S+);", (ROOT / "protos/saerec_ray/v1/intent_service.proto").read_text("utf-8"), re.M
    )
    assert prefixes == [f"/{services[0]}.", "/grpc.health.v1.Health/"]
    clusters = {cluster["name"] for cluster in documents("envoy.yaml")[0]["static_resources"]["clusters"]}
    assert {route["route"]["cluster"] for route in host["routes"]} == clusters
