import pytest

from standpipe.app.engines import Kind, Named, http_url, parse_engine


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("embedded", Named(Kind.EMBEDDED, "")),
        ("embedded:smollm2:135m", Named(Kind.EMBEDDED, "smollm2:135m")),
        ("embedded:/a/b.gguf#slots=2", Named(Kind.EMBEDDED, "/a/b.gguf", 2)),
        ("http://host:8000/v1#slots=32", Named(Kind.HTTP, "http://host:8000/v1", 32)),
        ("http+unix:///run/e.sock:/v1", Named(Kind.HTTP, "http+unix:///run/e.sock:/v1")),
        ("ollama://host#slots=2", Named(Kind.OLLAMA, "ollama://host", 2)),
        ("scripted:", Named(Kind.SCRIPTED, "scripted:")),
        (" scripted:?rate=5 ", Named(Kind.SCRIPTED, "scripted:?rate=5")),
    ],
)
def test_an_engine_is_named_by_one_text(text, named):
    assert parse_engine(text) == named


@pytest.mark.parametrize("text", ["", "http", "scripted", "ftp://x", "host:8000", "embedded#slots=0", "embedded#n=1"])
def test_a_wrong_name_is_told_what_is_allowed(text):
    with pytest.raises(ValueError, match=r"embedded|slots=N"):
        parse_engine(text)


def test_a_refused_url_is_not_repeated():
    with pytest.raises(ValueError) as caught:
        parse_engine("ftp://user:secret@host")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ollama://localhost", "http://localhost:11434"),
        ("ollama://localhost/", "http://localhost:11434"),
        ("ollama://10.0.0.7:8000", "http://10.0.0.7:8000"),
        ("ollama://[::1]", "http://[::1]:11434"),
        ("ollama://[::1]:80", "http://[::1]:80"),
        ("ollama://me:secret@host", "http://me:secret@host:11434"),
        ("ollama://me:secret@host:1", "http://me:secret@host:1"),
    ],
)
def test_its_place_has_a_port_of_its_own(text, url):
    assert http_url(text) == url


@pytest.mark.parametrize("text", ["ollama://", "ollama:", "ollama://host/v1", "http://secret"])
def test_a_wrong_place_is_told_what_is_allowed(text):
    with pytest.raises(ValueError, match="ollama://host") as caught:
        http_url(text)
    assert "secret" not in str(caught.value)
