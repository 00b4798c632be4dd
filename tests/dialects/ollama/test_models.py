import msgspec
import pytest

from standpipe.dialects.ollama import wire as ollama_wire

SINCE = 1_700_000_000


def test_models_have_what_clients_insist_on():
    body = msgspec.json.decode(ollama_wire.tags(["gpt-oss:latest", "other"], SINCE))
    assert [model["model"] for model in body["models"]] == ["gpt-oss:latest", "other"]
    for model in body["models"]:
        assert set(model) == {"name", "model", "modified_at", "size", "digest", "details"}
        assert model["name"] == model["model"]
        assert len(bytes.fromhex(model["digest"])) == 32
    assert body["models"][0]["digest"] != body["models"][1]["digest"]
    assert body["models"][0]["modified_at"] == "2023-11-14T22:13:20Z"


def test_every_model_runs_and_stays():
    (model,) = msgspec.json.decode(ollama_wire.running(["m"]))["models"]
    assert set(model) == {"name", "model", "expires_at", "size", "size_vram", "digest", "details"}
    assert model["expires_at"] > "9999"


@pytest.mark.parametrize(
    ("name", "thinks"),
    [("gpt-oss:20b", True), ("someone/gpt-oss-120b", True), ("smollm", False), ("my-gpt-oss", False)],
)
def test_a_model_is_shown_with_what_it_can(name, thinks):
    body = msgspec.json.decode(ollama_wire.show(name, SINCE, sees=False))
    assert body["capabilities"] == ["completion", "tools", *["thinking"] * thinks]
    assert "vision" in msgspec.json.decode(ollama_wire.show(name, SINCE, sees=True))["capabilities"]
    assert {"modelfile", "template", "parameters", "details", "model_info", "modified_at"} <= set(body)


def test_the_version_is_one_that_clients_talk_to_and_ours_stands_beside_it():
    body = msgspec.json.decode(ollama_wire.version("0.1.0"))
    assert tuple(map(int, body["version"].split("."))) >= (0, 6, 4)
    assert body["standpipe"] == "0.1.0"
