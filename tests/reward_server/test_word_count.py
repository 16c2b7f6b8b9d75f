from hypothesis import given
from hypothesis import strategies as st

from reward_server.scorers.texts import word_count

BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())


@given(st.text(st.sampled_from("ab." + BLANKS) | st.characters()), st.integers(0, 30))
def test_words_are_what_split_gives_up_to_enough(text, enough):
    assert word_count(text, enough) == min(len(text.split()), enough)


@given(st.text(st.sampled_from("ab \n\t\x1c\x7f"), max_size=200))
def test_ascii_words_are_what_split_gives(text):
    assert word_count(text, 1000) == len(text.split())
