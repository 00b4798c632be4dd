import re
import tomllib

import pytest

from standpipe.cli import template
from standpipe.configuration import load, unknown_variables
from standpipe.settings import Settings, SettingsError, fields


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path):
    file = tmp_path / "standpipe.toml"
    file.write_text('port = 1\nhost = "::"\nlog_format = "json"\nengine = ["scripted:", "http://a/v1"]\n')
    settings = load({"port": "3"}, {"STANDPIPE_PORT": "2", "STANDPIPE_HOST": "127.0.0.2"}, file)
    assert (settings.port, settings.host, settings.log_format) == (3, "127.0.0.2", "json")
    assert settings.engine == ("scripted:", "http://a/v1")
    assert settings.grace == Settings().grace


def test_a_platform_says_the_port_where_we_do_not(tmp_path):
    file = tmp_path / "standpipe.toml"
    file.write_text("port = 1")
    assert load({}, {"PORT": "7860"}, file).port == 7860
    assert load({}, {"PORT": "7860", "STANDPIPE_PORT": "2"}).port == 2
    assert load({"port": "3"}, {"PORT": "7860"}).port == 3
    assert load({}, {"PORT": ""}).port == Settings().port
    assert load({}, {"PORT": "7860", "STANDPIPE_PORT": "tcp://10.0.0.1:80"}).port == 7860
    with pytest.raises(SettingsError, match="from PORT"):
        load({}, {"PORT": "http"})


@pytest.mark.parametrize("other", [{"trusted_proxies": ["10.0.0.1"]}, {"proxy_protocol": "true"}])
def test_proxies_are_trusted_by_number_or_by_address(other):
    with pytest.raises(SettingsError, match="trusted_hops trusts whoever connects"):
        load({"trusted_hops": "1", **other})


def test_a_variable_of_many_values_is_separated_by_spaces():
    assert load({}, {"STANDPIPE_TRUSTED_PROXIES": "10.0.0.1  10.1.0.0/16"}).trusted_proxies == (
        "10.0.0.1",
        "10.1.0.0/16",
    )


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("port", "99999", "an integer from 0 to 65535"),
        ("port", "1.5", "an integer from 0 to 65535"),
        ("pace_interval", "-1", "a number from 0 to 3600"),
        ("pace_interval", "nan", "a number from 0 to 3600"),
        ("grace", "inf", "a number from 0 to 86400"),
        ("stall_timeout", "0", "a number above 0 to 86400"),
        ("system_prompt_mode", "append", "one of prepend, default, off"),
        ("reuse_port", "perhaps", "true or false"),
        ("name", "x" * 81, "a string of at most 80 characters"),
    ],
)
def test_a_wrong_value_names_the_setting_the_value_and_what_is_allowed(name, value, allowed):
    with pytest.raises(SettingsError) as caught:
        load({name: value})
    message = str(caught.value)
    assert name in message
    assert repr(value) in message
    assert message.endswith(allowed)
    assert "--" + name.replace("_", "-") in message


def test_a_wrong_value_says_where_it_came_from(tmp_path):
    with pytest.raises(SettingsError, match="STANDPIPE_PORT"):
        load({}, {"STANDPIPE_PORT": "x"})
    file = tmp_path / "a.toml"
    file.write_text("port = true")
    with pytest.raises(SettingsError, match=r"a\.toml"):
        load({}, {}, file)


@pytest.mark.parametrize("text", ["prt = 1", "port = ", "\udcff"])
def test_a_bad_file_is_named(tmp_path, text):
    file = tmp_path / "bad.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SettingsError, match=r"bad\.toml"):
        load({}, {}, file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load({}, {}, tmp_path / "none.toml")


def test_certificate_and_key_go_together():
    with pytest.raises(SettingsError, match="tls_key"):
        load({"tls_cert": "a.pem"})


def test_the_proxy_protocol_excludes_tls():
    with pytest.raises(SettingsError, match="proxy_protocol"):
        load({"proxy_protocol": "true", "tls_cert": "a", "tls_key": "b"})


def test_every_row_of_the_table_is_complete():
    for field in fields():
        assert field.help, field.name
        assert field.allowed, field.name
        assert field.default == getattr(Settings(), field.name)


def test_every_default_is_allowed():
    for field in fields():
        value = list(field.default) if field.many else str(field.default)
        assert getattr(load({field.name: value}), field.name) == field.default


def test_a_key_that_is_nearly_right_is_recognised(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("pace_intervall = 1")
    with pytest.raises(SettingsError, match=r"did you mean pace_interval\?"):
        load({}, {}, file)


def test_a_mistyped_variable_is_told_and_ends_nothing():
    environ = {
        "STANDPIPE_PACE_INTERVALL": "1",
        "STANDPIPE_PORT": "1",
        "STANDPIPE": "x",
        "STANDPIPE_ZZZ": "",
        "HOME": "/",
    }
    assert load({}, environ).port == 1
    assert unknown_variables(environ) == [
        "STANDPIPE_PACE_INTERVALL is not a setting: did you mean STANDPIPE_PACE_INTERVAL?",
        "STANDPIPE_ZZZ is not a setting",
    ]


def test_a_service_of_kubernetes_that_has_our_name_is_no_setting():
    environ = {
        "STANDPIPE_PORT": "tcp://10.0.0.1:80",
        "STANDPIPE_SERVICE_HOST": "10.0.0.1",
        "STANDPIPE_SERVICE_PORT_HTTP": "80",
        "STANDPIPE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "STANDPIPE_PORT_80_TCP_ADDR": "10.0.0.1",
        "STANDPIPE_ADMIN_SERVICE_HOST": "10.0.0.1",
    }
    assert load({}, environ).port == Settings().port
    assert unknown_variables(environ) == []


def test_the_template_changes_nothing_as_it_stands_and_shows_every_default(tmp_path):
    text = template()
    assert tomllib.loads(text) == {}
    assert max(map(len, text.splitlines())) <= 120
    file = tmp_path / "all.toml"
    file.write_text(re.sub(r"(?m)^#(?=\w)", "", text))
    assert set(tomllib.loads(file.read_text())) == {field.name for field in fields()}
    assert load({}, {}, file) == Settings()


def test_every_setting_is_in_a_group():
    assert all(field.group for field in fields())
    assert len({field.group for field in fields()}) == 8
