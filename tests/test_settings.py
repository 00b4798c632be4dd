import pytest

from standpipe.settings import Settings, SettingsError, fields, load


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path):
    file = tmp_path / "standpipe.toml"
    file.write_text('port = 1\nhost = "::"\nlog_format = "json"\nengine = ["scripted:", "http://a/v1"]\n')
    settings = load({"port": "3"}, {"STANDPIPE_PORT": "2", "STANDPIPE_HOST": "127.0.0.2"}, file)
    assert (settings.port, settings.host, settings.log_format) == (3, "127.0.0.2", "json")
    assert settings.engine == ("scripted:", "http://a/v1")
    assert settings.grace == Settings().grace


def test_a_variable_of_many_values_is_separated_by_spaces():
    assert load({}, {"STANDPIPE_TRUSTED_PROXIES": "10.0.0.1  10.1.0.0/16"}).trusted_proxies == (
        "10.0.0.1",
        "10.1.0.0/16",
    )


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("port", "99999", "a whole number from 0 to 65535"),
        ("port", "1.5", "a whole number from 0 to 65535"),
        ("pace_interval", "-1", "a number from 0 to 3600"),
        ("pace_interval", "nan", "a number from 0 to 3600"),
        ("grace", "inf", "a number from 0 to 86400"),
        ("stall_timeout", "0", "a number above 0 to 86400"),
        ("system_prompt_mode", "append", "one of prepend, default, off"),
        ("reuse_port", "perhaps", "true or false"),
        ("name", "x" * 81, "a text of at most 80 characters"),
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
