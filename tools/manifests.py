"""The Kubernetes manifests: rendered as Kustomize would, as far as they use it, and looked through.

python -m tools.manifests               finds names that lead nowhere
python -m tools.manifests --schemas     holds them against Kubernetes' own schemas as well, of three versions;
                                        needs kubernetes-validate, which is large: see scripts/manifests
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "kubernetes"
_EXTENSIONS = ("gateway.networking.k8s.io/", "monitoring.coreos.com/", "keda.sh/")
"""Kinds that are not Kubernetes' own."""

Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """Every manifest of a kustomization, those of the folders under it included. Kustomize gives the generated
    ConfigMap a name of its content, and here it keeps its own."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    found: list[Manifest] = []
    for name in kustomization["resources"]:
        path = folder / name
        if path.is_dir():
            found += render(path.resolve())
        else:
            found += [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    for made in kustomization.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text(encoding="utf-8") for name in made["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    return found


def faults(manifests: list[Manifest]) -> list[str]:
    """Names that lead nowhere, in sentences."""
    return list(_faults(manifests))


def _faults(manifests: list[Manifest]) -> Iterator[str]:
    of = {(one["kind"], one["metadata"]["name"]): one for one in manifests}
    if len(of) < len(manifests):
        yield "two manifests have one name"
    pods = [one["spec"]["template"] for one in manifests if one["kind"] == "Deployment"]
    ports = {port["name"] for pod in pods for port in pod["spec"]["containers"][0]["ports"]}
    labels = [pod["metadata"]["labels"].items() for pod in pods]
    for one in manifests:
        who, spec = f"{one['kind']} {one['metadata']['name']}", one.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        wanted = selector.get("matchLabels", selector if one["kind"] == "Service" else {}).items()
        targets = labels if one["kind"] != "ServiceMonitor" else [
            other["metadata"]["labels"].items() for (kind, _), other in of.items() if kind == "Service"
        ]  # fmt: skip
        if not any(wanted <= there for there in targets):
            yield f"{who} selects nothing"
        named = [port["targetPort"] for port in spec.get("ports", ())]
        named += [port["port"] for rule in spec.get("ingress", ()) for port in rule.get("ports", ())]
        yield from (f"{who} names the port {port}, which no pod has" for port in named if port not in ports)
        for service, port in _backends(one):
            if ("Service", service) not in of:
                yield f"{who} sends to the service {service}, which there is not"
            elif all(port not in {there["name"], there["port"]} for there in of["Service", service]["spec"]["ports"]):
                yield f"{who} sends to port {port} of {service}, which it has not"
    for pod in pods:
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume and ("ConfigMap", volume["configMap"]["name"]) not in of:
                yield f"the pod mounts the ConfigMap {volume['configMap']['name']}, which there is not"


def _backends(one: Manifest) -> Iterator[tuple[str, str | int]]:
    for rule in one.get("spec", {}).get("rules", ()):
        for path in rule.get("http", {}).get("paths", ()):
            service = path["backend"]["service"]
            yield service["name"], service["port"].get("name") or service["port"]["number"]
        for reference in rule.get("backendRefs", ()):
            yield reference["name"], reference["port"]


def _schema_faults(manifests: list[Manifest]) -> Iterator[str]:
    import kubernetes_validate  # noqa: PLC0415 - large, and for this alone

    for one in manifests:
        if one["apiVersion"].startswith(_EXTENSIONS):
            continue
        for version in ("1.33", "1.35", kubernetes_validate.latest_version()):
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.InvalidSchemaError) as error:
                yield f"{one['kind']} {one['metadata']['name']} by {version}: {error}"


def main() -> int:
    """Look through all of them. Gives the exit status."""
    count, found = 0, []
    for path in sorted(FOLDER.glob("*/kustomization.yaml")):
        manifests = render(path.parent)
        count += len(manifests)
        found += faults(manifests)
        if "--schemas" in sys.argv:
            found += _schema_faults(manifests)
    sys.stdout.write("\n".join([*sorted(set(found)), f"{count} manifests, {len(set(found))} faults"]) + "\n")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
