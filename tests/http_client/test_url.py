from __future__ import annotations

import pytest

from standpipe.http_client.url import describe_url, parse_url


def test_http_with_port_and_path():
    url = parse_url("http://box:8000/v1")
    assert (url.secure, url.host, url.port, url.authority, url.base) == (False, "box", 8000, "box:8000", "/v1")
    assert url.socket is None
    assert url.authorization is None


@pytest.mark.parametrize(
    ("given", "port", "authority"),
    [
        ("http://box", 80, "box"),
        ("https://box/", 443, "box"),
        ("https://box:443", 443, "box"),
        ("http://box:443", 443, "box:443"),
        ("HTTP://BOX:8000", 8000, "box:8000"),
        ("http://127.0.0.1:8000", 8000, "127.0.0.1:8000"),
        ("http://my_service.internal.:8000", 8000, "my_service.internal.:8000"),
    ],
)
def test_port_and_authority(given, port, authority):
    url = parse_url(given)
    assert (url.port, url.authority, url.base) == (port, authority, "")


def test_ipv6_host_is_bracketed_in_its_authority_only():
    url = parse_url("http://[0:0::1]:8000/v1/")
    assert (url.host, url.authority, url.base) == ("::1", "[::1]:8000", "/v1")


def test_unix_socket_with_and_without_a_path():
    url = parse_url("http+unix:///run/standpipe/engine.sock:/v1")
    assert (url.socket, url.base, url.authority) == ("/run/standpipe/engine.sock", "/v1", "localhost")
    assert parse_url("http+unix:///run/engine.sock").base == ""


def test_user_information_becomes_basic_authorization():
    assert parse_url("http://me:p%40ss@box/v1").authorization == "Basic bWU6cEBzcw=="
    assert parse_url("http://token@box/v1").authorization == "Basic dG9rZW46"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://me:secret@box:8000/secret/v1", "http://box:8000"),
        ("https://secret@box/v1", "https://box"),
        ("http+unix:///home/secret/engine.sock:/v1", "http+unix://engine.sock"),
    ],
)
def test_a_shown_url_has_neither_credentials_nor_paths(given, shown):
    assert describe_url(given) == shown
    assert repr(parse_url(given)) == f"<EngineUrl {shown}>"


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ("ftp://secret:secret@box", "http://"),
        ("box:8000", "http://"),
        ("", "http://"),
        ("http:///v1", "host"),
        ("http://-secret-/v1", "host"),
        ("http://" + "a" * 64, "host"),
        ("http://secret.." + "box", "host"),
        ("http://[secret", "host"),
        ("http://[12345::1]", "malformed"),
        ("http://[v1.secret]", "malformed"),
        ("http://box:secret/v1", "port"),
        ("http://box:0/v1", "port"),
        ("http://box:65536/v1", "port"),
        ("http://box/v1?key=secret", "query"),
        ("http://box/v1#secret", "fragment"),
        ("http://box/secret//v1", "path"),
        ("http://box/secret v1", "ASCII"),
        ("http://box/secret\r\nx: y", "ASCII"),
        ("http://bücher/secret", "xn--"),
        ("http+unix://secret.sock", "absolute path"),
        ("http+unix:///secret/", "absolute path"),
        ("http+unix:///" + "secret" * 20, "107"),
        ("http+unix:///engine.sock:secret", "path"),
    ],
)
def test_what_is_malformed_is_told_without_repeating_it(given, word):
    with pytest.raises(ValueError, match=word) as caught:
        parse_url(given)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
