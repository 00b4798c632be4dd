"""What lies in deploy/ and stands in its page can be taken as it is: each command parses, each name leads somewhere."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from standpipe.app.doubts import doubts
from standpipe.cli import _parser, _settings
from standpipe.configuration import load
from standpipe.settings import fields
from tools import manifests

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
YAML = sorted(DEPLOY.rglob("*.yaml"))
PAGES = [ROOT / "docs" / "deploy.md", ROOT / "docs" / "edge.md"]
TEXTS = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()] + PAGES
NAMES = {field.variable for field in fields()}


def documents(path):
    return [one for one in yaml.load_all(path.read_text(encoding="utf-8"), Loader) if one is not None]


class Loader(yaml.SafeLoader):  # type: ignore[misc] # it has no types
    """Compose's own tag, too."""


Loader.add_constructor("!reset", lambda loader, node: loader.construct_sequence(node))


def commands():
    """Every `standpipe serve` that is written down, as its words."""
    for path in TEXTS:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^[^#\n]*?\bstandpipe serve (.*)$", text, re.MULTILINE):
            if line.lstrip().startswith("-"):
                yield path.relative_to(ROOT), tuple(shlex.split(line.partition("`")[0], comments=True))
        for line in re.findall(r'^(?:CMD|.*\bcommand: )(\[.*"serve".*\])$', text, re.MULTILINE):
            words = json.loads(line)
            yield path.relative_to(ROOT), tuple(words[words.index("serve") + 1 :])


@pytest.mark.parametrize(("path", "words"), sorted(set(commands())), ids=str)
def test_every_command_has_settings_that_exist(path, words):
    words = [word for word in words if word not in {"&", "\\"}]
    if "--config" in words:
        words = words[: words.index("--config")] + words[words.index("--config") + 2 :]
    arguments = _parser().parse_args(["serve", *words])
    assert _settings(arguments)


def test_there_are_commands_to_look_at():
    assert len(set(commands())) >= 12


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_variable_is_a_setting(path):
    found = set(re.findall(r"\bSTANDPIPE_[A-Z_]+\b", path.read_text(encoding="utf-8")))
    assert found - NAMES - {"STANDPIPE_PORT"} == set()


def test_the_settings_in_kubernetes_are_right_and_leave_no_doubt():
    file = DEPLOY / "kubernetes" / "base" / "standpipe.toml"
    settings = load({}, {}, file)
    assert [sentence for sentence in doubts(settings) if "admin_host" not in sentence] == []
    (deployment,) = documents(DEPLOY / "kubernetes" / "base" / "deployment.yaml")
    patience = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert settings.drain_delay + settings.grace < patience


def test_a_kustomization_lists_what_lies_beside_it():
    for path in DEPLOY.rglob("kustomization.yaml"):
        (one,) = documents(path)
        files = {name for name in one["resources"] if not name.startswith("..")}
        assert files == {other.name for other in path.parent.glob("*.yaml")} - {path.name}
        for name in one["resources"]:
            assert (path.parent / name).exists()


def test_what_is_rendered_hangs_together():
    for overlay in ("base", "ingress", "gateway", "monitoring", "keda"):
        rendered = manifests.render(DEPLOY / "kubernetes" / overlay)
        assert manifests.faults(rendered) == [], overlay
    kinds = {one["kind"] for one in rendered}
    assert {"Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "ScaledObject"} <= kinds


def test_a_mistake_in_a_manifest_is_found():
    rendered = manifests.render(DEPLOY / "kubernetes" / "ingress")
    for one in rendered:
        if one["kind"] == "Service":
            one["spec"]["ports"][0]["targetPort"] = "web"
        if one["kind"] == "Ingress":
            one["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "tap"
    found = manifests.faults(rendered)
    assert any("web" in fault for fault in found)
    assert any("tap" in fault for fault in found)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.vllm.yaml"])
def test_a_composition_waits_for_services_that_it_has_and_hardens_ours(name):
    (one,) = documents(DEPLOY / "container" / name)
    services = one["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in one["volumes"]
    ours = services["standpipe"]
    assert (ours["read_only"], ours["cap_drop"]) == (True, ["ALL"])
    assert (DEPLOY / "container" / ours["build"]["context"] / ours["build"]["dockerfile"]).is_file()
    engine = ours["command"][ours["command"].index("--engine") + 1]
    assert re.search(r"//(\w+)", engine).group(1) in services


def test_a_space_listens_where_its_header_says():
    header = (DEPLOY / "huggingface" / "README.md").read_text(encoding="utf-8").split("---")[1]
    port = yaml.safe_load(header)["app_port"]
    container = (DEPLOY / "huggingface" / "Dockerfile").read_text(encoding="utf-8")
    assert f'"--port", "{port}"' in container
    assert f"EXPOSE {port}" in container


def test_platforms_files_can_be_read():
    for path in DEPLOY.rglob("*.toml"):
        assert tomllib.loads(path.read_text(encoding="utf-8"))
    for path in YAML:
        assert documents(path)
