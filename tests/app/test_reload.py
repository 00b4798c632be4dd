"""SIGHUP: what changes at once, what waits for a restart, and that nothing changes when anything is wrong."""

import asyncio

import pytest
from msgspec.structs import replace

from standpipe.app.reload import reload
from standpipe.engine_tables import EngineTable
from standpipe.engines.scripted.script import Script
from standpipe.settings import STARTS, Settings, SettingsError
from tests.serve.driver import Reply, scene


class Server:
    """What a reload needs of the edge's server."""

    def __init__(self):
        self.configured = []

    def configure(self, config, trust):
        self.configured.append((config, trust))

    def reload_tls(self):
        return False


async def hang_up(tap, server=None, **settings):
    """The operator edits the file and sends SIGHUP. Gives what the log says."""
    before = len(tap.lines)

    def read():
        return Settings(**settings)

    await reload(read, tap.app, tap.center.roster, server or Server(), tap.app._log)
    return tap.lines[before:]


@scene(Script(tokens=1), pace_interval=0)
async def test_what_can_change_changes_at_once_and_is_told(tap):
    server = Server()
    (line,) = await hang_up(
        tap, server, name="Fountain", pace_interval=2.0, max_tokens=7, queue_per_client=3, connections=9999,
        system_prompt="Be kind.", admin_hosts=("standpipe.monitoring",),
    )  # fmt: skip
    assert line["event"] == "settings reloaded"
    assert set(line["changed"].split()) == {
        *("name", "pace_interval", "max_tokens", "queue_per_client", "connections", "system_prompt", "admin_hosts"),
    }
    about = (await tap.send("GET", "/api")).json
    assert (about["name"], about["rate_limit"]["interval_seconds"], about["limits"]["max_tokens"]) == ("Fountain", 2, 7)
    assert (await tap.send("GET", "/api/limits")).json["caps"]["queue_per_client"] == 3
    assert "Fountain" in (await tap.send("GET", "/")).body.decode()
    assert (await tap.ask(stream=False)).headers["x-ratelimit-reset-requests"] == "2s"
    assert server.configured[0][0].connections == 9999


def test_an_engine_drains_and_comes_back_without_a_restart():
    def tables(*, drain, slots=4):
        return EngineTable(url="scripted:", drain=drain, slots=slots), "scripted:"

    @scene(Script(tokens=1, name="a"), Script(tokens=1, name="b"), engine=tables(drain=False), pace_interval=0)
    async def check(tap):
        members = tap.app.fleet.members
        for drain in (True, False):
            drains, reloaded = await hang_up(tap, engine=tables(drain=drain), pace_interval=0)
            assert drains["event"] == ("engine drains" if drain else "engine gets requests again")
            assert (drains["engine"], drains["by"], reloaded["changed"]) == ("a", "SIGHUP", "engine")
            assert [member.draining for member in members] == [drain, False]

    check()


@scene(Script(tokens=20, rate=10, slots=1), pace_interval=0)
async def test_what_waits_and_runs_goes_on(tap):
    asks = [tap.leaving(Reply(), peer=f"203.0.113.{n}", stream=False) for n in range(3)]
    await asyncio.sleep(0.1)
    await hang_up(tap, pace_interval=0, queue_total=1, max_tokens=5)
    refused = await tap.ask(peer="198.51.100.1")
    assert refused.status == 503
    await asyncio.gather(*asks)
    assert [ask.result().json["usage"]["completion_tokens"] for ask in asks] == [20, 20, 20]
    assert (await tap.ask(stream=False)).json["choices"][0]["finish_reason"] == "length"


@scene(Script(tokens=1), pace_interval=0)
async def test_what_needs_a_restart_is_told_and_stays(tap):
    lines = await hang_up(tap, pace_interval=0, port=99, model="other", name="Fountain")
    assert [line["event"] for line in lines] == ["settings reloaded", "these settings will only count after a restart"]
    assert lines[1]["settings"] == "model port"
    assert (tap.app.settings.port, tap.app.settings.name) == (Settings().port, "Fountain")
    assert "answered on this machine" in (await tap.send("GET", "/privacy.md")).body.decode()


@pytest.mark.parametrize("wrong", [{"links": ("nothing",)}, {"trusted_proxies": ("nowhere",)}])
def test_settings_that_are_wrong_change_nothing(wrong):
    @scene(Script(tokens=1))
    async def test(tap):
        server = Server()
        before = tap.app.settings
        (line,) = await hang_up(tap, server, name="Fountain", **wrong)
        assert line["level"] == "warning"
        assert "the former ones stay" in line["event"]
        assert next(iter(wrong)) in line["reason"]
        assert tap.app.settings is before
        assert server.configured == []
        assert (await tap.send("GET", "/api")).json["name"] == "Standpipe"

    test()


@scene(Script(tokens=1))
async def test_a_file_that_cannot_be_read_changes_nothing(tap):
    def read():
        raise SettingsError("it is not TOML")

    await reload(read, tap.app, tap.center.roster, Server(), tap.app._log)
    assert "it is not TOML" in tap.lines[-1]["reason"]


@scene(Script(tokens=1))
async def test_the_level_of_the_log_can_change_and_back(tap):
    await hang_up(tap, log_level="debug")
    await tap.ask()
    assert any(line["level"] == "debug" for line in tap.lines)
    await hang_up(tap)
    count = len(tap.lines)
    await tap.ask()
    assert [line["event"] for line in tap.lines[count:]] == ["request"]


@scene(Script(tokens=1), pace_interval=0)
async def test_a_proxy_that_is_trusted_from_now_on_is_heard(tap):
    told = {"x-forwarded-for": "203.0.113.77"}
    assert (await tap.send("GET", "/api/limits", headers=told)).json["client"]["address"] == "192.0.2.x"
    await hang_up(tap, pace_interval=0, trusted_proxies=("192.0.2.1",))
    assert (await tap.send("GET", "/api/limits", headers=told)).json["client"]["address"] == "203.0.113.x"


def test_every_setting_of_a_start_is_a_setting():
    assert set(Settings.__struct_fields__) >= STARTS
    replace(Settings(), **dict.fromkeys(STARTS))
