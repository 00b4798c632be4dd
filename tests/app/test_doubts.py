"""Mistakes of operators: each is recognised, said in one sentence, and said of nobody else."""

import pytest

from standpipe.app.doubts import DOUBTS, doubts
from standpipe.engine_tables import EngineTable
from standpipe.settings import Settings

MISTAKES = [
    ({"host": "0.0.0.0"}, "unencrypted"),
    ({"admin_host": "::"}, "/metrics and /top"),
    ({"port": 443}, "speaks plain HTTP"),
    ({"port": 80, "tls_cert": "a", "tls_key": "b"}, "speaks HTTPS"),
    ({"unix_socket": "/run/s", "port": 9}, "host and port are ignored"),
    ({"reuse_port": True, "port": 0}, "shares no port"),
    ({"engine": ("http://127.0.0.1:8080/v1",)}, "in a circle"),
    ({"api_key": "k", "engine": ("embedded",)}, "sent to nobody"),
    ({"api_key": "k", "engine": ("http://gpu.internal:8000/v1",)}, "unencrypted over the network"),
    ({"engine": (EngineTable(url="http://gpu.internal:8000/v1", key="k"),)}, "unencrypted over the network"),
    ({"context": 9000, "engine": ("http://a:1/v1",)}, "no engine is embedded"),
    ({"context": 2048, "max_tokens": 2048}, "nothing is left for the prompt"),
    ({"system_prompt": "Be kind.", "system_prompt_mode": "off"}, "system_prompt is ignored"),
    ({"system_prompt_mode": "default"}, "system_prompt is empty"),
    ({"first_token_timeout": 2.0}, "will be given up"),
    ({"pace_interval": 0, "pace_waiting": 3}, "pace_waiting changes nothing"),
    ({"queue_per_client": 65}, "queue_per_client is never reached"),
    ({"queue_total": 10}, "one network can fill the queue"),
    ({"slots": "4", "client_slots": 4}, "hold every slot"),
    ({"connections_per_client": 129}, "connections_per_client is never reached"),
    ({"connections_per_block": 10_001}, "one network can take them all"),
    ({"connections": 500}, "the queue can never fill"),
    ({"client_header": "CF-Connecting-IP"}, "client_header is never read"),
    ({"trusted_proxies": ("64.0.0.0/2",), "hosts": ("a.example",)}, "huge network"),
    ({"proxy_protocol": True}, "nobody is trusted to send"),
    ({"trusted_proxies": ("127.0.0.1",)}, "visitors get 403 until hosts"),
    ({"drain_delay": 5, "workers": "2"}, "drain_delay is ignored"),
    ({"trusted_hops": 1}, "visitors get 403 until hosts"),
    ({"hosts": ("https://a.example",)}, "bare names"),
    ({"admin_hosts": ("a.example:8081",)}, "bare names"),
    ({"public_url": "http://a.example", "tls_cert": "a", "tls_key": "b"}, "but tls_cert"),
    ({"public_url": "https://a.example", "hosts": ("b.example",)}, "follow it get 403"),
]
FINE = [
    {},
    {"host": "0.0.0.0", "tls_cert": "a", "tls_key": "b", "port": 443, "hosts": ("A.example",)},
    {"trusted_proxies": ("127.0.0.1", "unix"), "hosts": ("a.example",), "client_header": "CF-Connecting-IP"},
    {"public_url": "https://a.example", "hosts": ("A.example", "b.example"), "trusted_proxies": ("10.0.0.0/8",)},
    {"engine": ("http://127.0.0.1:8000/v1#slots=4", "embedded"), "api_key": "k", "context": 8192},
    {"unix_socket": "/run/s", "engine": ("http://127.0.0.1:8080/v1",)},
    {"hosts": ("::1", "a.example")},
]


@pytest.mark.parametrize(("settings", "words"), MISTAKES)
def test_a_mistake_is_told_in_one_sentence(settings, words):
    found = [sentence for sentence in doubts(Settings(**settings)) if words in sentence]
    assert len(found) == 1


@pytest.mark.parametrize("settings", FINE)
def test_what_is_well_is_left_alone(settings):
    assert doubts(Settings(**settings)) == []


def test_every_doubt_has_a_mistake():
    for _, sentence in DOUBTS:
        assert any(words in sentence for _, words in MISTAKES), sentence
