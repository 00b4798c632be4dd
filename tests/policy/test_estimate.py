from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from standpipe.chat.ask import Ask, Image, Message, Role, Text, Tool, ToolCall, ToolResult
from standpipe.policy.estimate import (
    Bias,
    Measured,
    Prompts,
    Sizes,
    Speed,
    TextKind,
    image_tokens,
    text_kind,
    texts,
)

PROSE = "It was a dark and stormy night, and the rain fell in torrents. "
CODE = "{'a': [1, 2, 3], 'b': {'x': 4.5e-3}}\n\tfor (i = 0; i < 10; i++) { x[i] += 1; }\n"
WIDE = "\u7530\u4e2d\u3055\u3093\u306f\u672c\u3092\u8aad\u307f\u307e\u3059\u3002"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PROSE, TextKind.PROSE),
        (CODE, TextKind.CODE),
        (WIDE, TextKind.WIDE),
        ("", TextKind.PROSE),
        ("na\u00efve caf\u00e9 " * 9, TextKind.PROSE),
    ],
)
def test_texts_are_sorted_by_what_they_are_mostly_made_of(text, found):
    assert text_kind(text) is found


def test_sizes_count_bytes_of_each_kind_and_messages():
    assert Sizes.of([PROSE, CODE, WIDE, ""]) == Sizes(len(PROSE), len(CODE), len(WIDE.encode()), 4)


@pytest.mark.parametrize(
    ("size", "tokens"), [((1, 1), 1), ((200, 200), 53), ((1000, 1000), 1333), ((4096, 4096), 1600)]
)
def test_an_image_is_tokens_by_its_pixels(size, tokens):
    image = Image("image/png", "", *size)
    assert image_tokens(image) == tokens
    shown = Ask(
        (Message(Role.USER, (Text("What?"), image)), Message(Role.TOOL, (ToolResult("1", "", images=(image,)),)))
    )
    assert list(texts(shown)) == ["What?", ""]
    assert Sizes.of(texts(shown), shown.images) == Sizes(5, messages=2, images=2 * tokens)


def test_lone_surrogates_have_a_size_too():
    assert Sizes.of(["\ud800" * 3]).wide == 9


class TestPrompts:
    def test_the_first_guess_is_about_right_for_english(self):
        tokens = 14  # of the sentence, in any tokenizer of today
        assert 0.5 * 20 * tokens < Prompts().guess(Sizes.of([PROSE * 20])) < 1.5 * 20 * tokens

    def test_what_is_charged_early_is_low(self):
        sizes = Sizes.of([PROSE * 20])
        assert 0 < Prompts().low(sizes) < Prompts().guess(sizes)

    def test_each_kind_learns_its_own_rate(self):
        prompts, random = Prompts(), Random(1)
        for _ in range(3000):
            sizes = Sizes(
                random.randint(0, 4000), random.randint(0, 4000), random.randint(0, 4000), random.randint(1, 9)
            )
            prompts.learn(sizes, round(0.2 * sizes.prose + 0.5 * sizes.code + 0.9 * sizes.wide + 7 * sizes.messages))
        for sizes, tokens in ((Sizes(prose=4000), 800), (Sizes(code=4000), 2000), (Sizes(wide=4000), 3600)):
            assert prompts.guess(sizes) == pytest.approx(tokens, rel=0.1)
            assert 0.5 * tokens < prompts.low(sizes) <= 1.06 * tokens

    def test_what_an_image_is_to_this_engine_is_learned_from_its_counts(self):
        prompts, sizes = Prompts(), Sizes(prose=200, messages=1, images=1333)
        assert prompts.low(sizes) > 900
        for _ in range(200):
            prompts.learn(sizes, 300)
        assert prompts.guess(sizes) == pytest.approx(300, rel=0.1)
        assert prompts.guess(Sizes(prose=200, messages=1)) == pytest.approx(48, rel=0.2)

    def test_low_guesses_are_seldom_too_high(self):
        prompts, random = Prompts(), Random(2)
        high = 0
        for number in range(2000):
            sizes = Sizes(prose=random.randint(100, 4000), messages=1)
            tokens = round(sizes.prose * random.uniform(0.18, 0.3))
            high += number >= 200 and prompts.low(sizes) > tokens
            prompts.learn(sizes, tokens)
        assert high < 0.2 * 1800

    def test_an_outlier_moves_it_little(self):
        prompts = Prompts()
        before = prompts.guess(Sizes(prose=1000))
        prompts.learn(Sizes(prose=1000), 10**9)
        assert prompts.guess(Sizes(prose=1000)) < 1.1 * before

    @pytest.mark.parametrize(("sizes", "tokens"), [(Sizes(), 100), (Sizes(prose=100), 0), (Sizes(prose=100), -5)])
    def test_what_says_nothing_teaches_nothing(self, sizes, tokens):
        prompts = Prompts()
        before = repr(prompts)
        prompts.learn(sizes, tokens)
        assert repr(prompts) == before

    @settings(deadline=None)
    @given(st.lists(st.tuples(*[st.integers(0, 10**7)] * 4, st.integers(0, 10**7)), max_size=40))
    def test_no_history_makes_a_guess_negative_or_endless(self, history):
        prompts = Prompts()
        for prose, code, wide, messages, tokens in history:
            prompts.learn(Sizes(prose, code, wide, messages), tokens)
        assert 0 <= prompts.low(Sizes(1, 1, 1, 1)) <= prompts.guess(Sizes(1, 1, 1, 1)) < 1e9


class TestSpeed:
    def test_knows_nothing_before_the_first_answer(self):
        assert Speed().measured is None

    def test_measures_the_first_answer_whole(self):
        speed = Speed()
        speed.learn(100, 0.5, 50, 1.0)
        assert speed.measured == Measured(0.005, 0.02, 50.0, 1.5)

    def test_follows_an_engine_that_slows_down(self):
        speed = Speed(gain=0.1)
        for seconds in [1.0] * 50 + [3.0] * 50:
            speed.learn(100, 0.0, 50, seconds)
        assert speed.measured.output_seconds == pytest.approx(3.0 / 50, rel=0.02)

    def test_an_answer_of_no_tokens_divides_by_nothing(self):
        speed = Speed()
        speed.learn(0, 0.5, 0, 0.0)
        assert speed.measured == Measured(0.5, 0.0, 0.0, 0.5)


class TestBias:
    def test_begins_with_none(self):
        assert Bias().factor == 1.0

    def test_learns_how_much_longer_waits_are(self):
        bias = Bias(gain=0.1)
        for _ in range(100):
            bias.learn(2.0, 3.0)
        assert bias.factor == pytest.approx(1.5, rel=0.01)

    def test_a_prediction_of_none_teaches_nothing(self):
        bias = Bias()
        bias.learn(0.0, 5.0)
        assert bias.factor == 1.0

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.floats(0, 1e6)), max_size=50))
    def test_stays_within_reason(self, history):
        bias = Bias(gain=0.5)
        for predicted, waited in history:
            bias.learn(predicted, waited)
        assert 0.124 < bias.factor < 8.01


def test_everything_a_model_reads_is_measured():
    ask = Ask(
        messages=(
            Message(Role.USER, (Text("hello"),)),
            Message(Role.ASSISTANT, (Text("so "), ToolCall("1", "look", '{"at": 1}'))),
            Message(Role.TOOL, (ToolResult("1", "seen"),)),
        ),
        tools=(Tool("look", "Look at it."),),
    )
    found = list(texts(ask))
    assert found[:3] == ["hello", 'so {"at": 1}', "seen"]
    assert "Look at it." in found[3]


def test_they_tell_what_they_have_learnt():
    assert "tokens per byte" in repr(Prompts())
    assert "None" in repr(Speed())
    assert repr(Bias()) == "<Bias 1.00>"
