"""Images: what their headers tell, what is refused, and how many an engine is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from standpipe.chat.ask import Ask, Image, Message, Role, Text, ToolResult, now
from standpipe.chat.errors import InvalidAsk, TooLarge, Unsupported
from standpipe.dialects import bounds
from standpipe.dialects.image_header import Header, header_of
from standpipe.dialects.images import LOOKS, Album, shown
from tests.pictures import PICTURE, PNG, chunk, frame, gif, ihdr, jpeg, png, segment, text, webp


def from_base64(sent: str | None, path: str) -> Image:
    return Album().from_base64(sent, path)


def from_url(sent: str | None, path: str) -> Image:
    return Album().from_url(sent, path)


SIDES = st.integers(1, 16_000)


def header(data: bytes) -> Header | None:
    return header_of(lambda at, most: data[at : at + most])


@given(SIDES, SIDES)
def test_the_size_of_every_kind_is_read(width, height):
    assert header(png(width, height, chunk(b"gAMA", bytes(4)))) == ("image/png", width, height)
    thumbnail = segment(0xE1, jpeg(9, 9))
    assert header(jpeg(width, height, thumbnail, b"\xff\xff", segment(0xE2, b"ICC"))) == ("image/jpeg", width, height)
    assert header(gif(width, height, comment=b"x" * 255)) == ("image/gif", width, height)
    for kind in (b"VP8 ", b"VP8L", b"VP8X"):
        assert header(webp(width, height, kind)) == ("image/webp", width, height)


WHOLE = [png(4, 3), jpeg(4, 3), gif(4, 3, comment=b"hi"), *(webp(4, 3, kind) for kind in (b"VP8 ", b"VP8L", b"VP8X"))]
LIES = [
    (png(4, 3, ihdr(8000, 8000)), None),
    (png(4, 3)[:8] + chunk(b"gAMA", bytes(4)) + png(4, 3)[8:], None),
    (jpeg(4, 3, frame(8000, 2)), Header("image/jpeg", 8000, 3)),
    (jpeg(4, 3, frame(2, 8000, 0xC2)), Header("image/jpeg", 4, 8000)),
    (gif(4, 3, left=10, wide=8000), Header("image/gif", 8010, 3)),
    (png(0, 3), None),
    (jpeg(4, 0), None),
    (gif(0, 0, wide=0), None),
    (png(2**31, 1), Header("image/png", 2**31, 1)),
]


@pytest.mark.parametrize(("data", "found"), LIES)
def test_of_two_sizes_the_larger_counts_or_neither(data, found):
    assert header(data) == found


@pytest.mark.parametrize("data", WHOLE)
def test_half_a_header_is_none(data):
    whole = header(data)
    assert whole is not None
    for end in range(len(data)):
        assert header(data[:end]) in {None, whole}
    assert header(data[:9]) is None


@pytest.mark.parametrize(
    "endless",
    [
        b"\x89PNG\r\n\x1a\n" + ihdr(4, 3) + chunk(b"tEXt", b"") * 50_000,
        b"\xff\xd8" + b"\xff" * 200_000,
        b"\xff\xd8" + segment(0xFE, b"") * 50_000,
        gif(4, 3)[:19] + b"!\xfe" + b"\1x" * 100_000,
        gif(4, 3)[:19] + b"!\xfe\0" * 100_000,
    ],
)
def test_no_image_keeps_anybody_looking(endless):
    looks = []

    def read(at, most):
        looks.append(at)
        return endless[at : at + most]

    assert header_of(read) is None
    assert len(looks) < 2000


def test_no_request_keeps_anybody_looking():
    """However long each header is, and however many there are: what is left over is refused, and words in the past."""
    long, album = text(b"\xff\xd8" + b"\xff" * 2000), Album()
    for _ in range(LOOKS // 1000):
        with pytest.raises(InvalidAsk):
            album.from_base64(long, "x")
    with pytest.raises(TooLarge, match="too many"):
        album.from_base64(PNG, "x")
    album = Album()
    for _ in range(500):
        assert album.from_base64(text(WHOLE[1]), "x").width == 4


@given(st.sampled_from(WHOLE), st.data())
def test_whatever_the_bytes_are_nothing_but_the_refusal_comes_and_only_bytes_that_are_there_are_read(data, draw):
    at = draw.draw(st.integers(0, len(data)))
    mangled = data[:at] + draw.draw(st.binary(max_size=12)) + data[draw.draw(st.integers(at, len(data))) :]
    asked = 0

    def read(at, most):
        nonlocal asked
        asked += most
        return mangled[at : at + most]

    found = header_of(read)
    assert asked <= 16 * (len(mangled) + 4)
    if found is None or max(found[1:]) > bounds.IMAGE_SIDE or found.width * found.height > bounds.IMAGE_PIXELS:
        with pytest.raises((InvalidAsk, TooLarge)) as caught:
            from_base64(text(mangled), "x")
        assert caught.value.param == "x"
    else:
        assert from_base64(text(mangled), "x") == Image(found.media_type, text(mangled), found.width, found.height)


@given(st.text(alphabet="iVBORw0KGgo=/9j+ \n-_é", max_size=12) | st.text(max_size=8))
def test_base64_is_strict(sent):
    with pytest.raises(InvalidAsk):
        from_base64(sent, "x")


@pytest.mark.parametrize("sent", [None, "", "http://169.254.169.254/", "file:///etc/passwd", f"data:image/png,{PNG}"])
def test_nothing_is_fetched(sent):
    with pytest.raises(Unsupported, match="none is fetched"):
        from_url(sent, "x")


@pytest.mark.parametrize("declared", ["image/png", "image/jpg;x=y", "", "IMAGE/PNG"])
def test_an_image_is_what_its_bytes_are(declared):
    assert from_url(f"data:{declared};base64,{PNG}", "x") == PICTURE
    assert from_url(f"DATA:{declared};BASE64,{PNG}", "x").field == "x"


@pytest.mark.parametrize(
    ("size", "fits"), [((8000, 2097), True), ((8001, 1), False), ((1, 8001), False), ((8000, 2098), False)]
)
def test_an_image_has_so_many_pixels(size, fits):
    if fits:
        assert from_base64(text(png(*size)), "x").width == size[0]
    else:
        with pytest.raises(TooLarge, match=f"{size[0]} x {size[1]}"):
            from_base64(text(png(*size)), "x")


def test_an_image_shows_nothing_of_itself_where_it_is_written():
    assert PNG not in repr(Ask((Message(Role.USER, (PICTURE,)),)))


# How many


def look(number: int, image: Image = PICTURE) -> Message:
    return Message(Role.USER, (Text("Look."), *[replace(image, field=f"images[{n}]") for n in range(number)]))


SAID = Message(Role.ASSISTANT, (Text("I see."),))
LARGE = replace(PICTURE, width=4096, height=4096)


def test_the_newest_are_shown_and_the_older_ones_have_words():
    ask = Ask((look(40), SAID, look(40), SAID, look(3)))
    seen = shown(ask, sees=True)
    assert [len(message.images) for message in seen.messages] == [21, 0, 40, 0, 3]
    assert len(seen.images) == bounds.IMAGES
    first = seen.messages[0].parts
    assert first[1:20] == (Text("[image that cannot be shown here]"),) * 19
    assert shown(seen, sees=True) == seen


@pytest.mark.parametrize("new", [look(bounds.IMAGES + 1), look(5, LARGE)])
def test_too_many_at_once_are_refused_by_name(new):
    with pytest.raises(TooLarge) as caught:
        shown(Ask((look(1), SAID, new)), sees=True)
    assert caught.value.param == "images[0]"


def test_what_a_tool_shows_is_the_past_however_new():
    results = Message(Role.TOOL, (ToolResult("1", "", images=(LARGE,) * 6),))
    (result,) = shown(Ask((look(0), SAID, results)), sees=True).messages[2].parts
    words = "\n".join(["[image that cannot be shown here]"] * 2)
    assert result == ToolResult("1", words, images=(LARGE,) * 4)


@given(st.lists(st.sampled_from([look(1), look(0), SAID]), max_size=6), st.booleans())
def test_an_ask_is_shown_or_refused_and_nothing_else_in_it_changes(messages, sees):
    ask = Ask(tuple(messages))
    past = now([message is SAID for message in messages])
    if not sees and any(message.images for message in messages[past:]):
        with pytest.raises(Unsupported):
            shown(ask, sees=False)
        return
    seen = shown(ask, sees=sees)
    assert [message.role for message in seen.messages] == [message.role for message in messages]
    assert seen == ask if sees else not seen.images
