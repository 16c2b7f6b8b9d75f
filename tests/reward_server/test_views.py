from hypothesis import given
from hypothesis import strategies as st

from reward_server.domain import Sample
from reward_server.views import View, answer_of, content_text, text_bytes

TEXTS = st.text(max_size=60)
CONTENTS = st.none() | TEXTS | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=3)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": CONTENTS}
)
CONVERSATIONS = st.lists(MESSAGES, max_size=4)
SAMPLES = st.builds(Sample, completion=TEXTS | CONVERSATIONS, prompt=st.none() | TEXTS | CONVERSATIONS)


THOUGHTS = TEXTS.map(lambda text: text.replace("</think>", "")).filter(str.strip)
KEYS = st.sampled_from(["reasoning_content", "thinking"])


def assistant(*contents):
    return [{"role": "assistant", "content": content} for content in contents]


@given(SAMPLES)
def test_full_and_answer_show_texts_whatever_the_sample_is(sample):
    for view in (View.FULL, View.ANSWER):
        shown = view.show(sample)
        assert isinstance(shown.completion, str)
        assert shown.prompt is None or isinstance(shown.prompt, str)


@given(SAMPLES)
def test_messages_shows_the_very_same_sample(sample):
    assert View.MESSAGES.show(sample) is sample


@given(SAMPLES)
def test_a_view_seen_through_itself_is_itself(sample):
    for view in View:
        shown = view.show(sample)
        assert View.FULL.show(shown) == shown or view is View.MESSAGES


@given(TEXTS, st.none() | TEXTS)
def test_a_plain_text_is_shown_as_it_is(completion, prompt):
    sample = Sample(completion, prompt)
    assert View.FULL.show(sample) is sample


@given(st.lists(SAMPLES, max_size=5), st.sampled_from(View))
def test_showing_many_is_showing_each(samples, view):
    assert list(view.show_all(samples)) == [view.show(sample) for sample in samples]


@given(TEXTS, TEXTS)
def test_the_answer_is_what_follows_the_first_closing_tag(thinking, answer):
    text = f"{thinking.replace('</think>', '')}</think>{answer}"
    assert answer_of(text) == answer.lstrip("\r\n")


def test_a_completion_cut_while_thinking_has_no_answer():
    assert answer_of("\n<think>Let me see, 2 + 2") == ""


def test_thinking_that_the_prompts_template_opened_is_no_answer_until_it_ends():
    prompt = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    cut = View.ANSWER.show(Sample("Let me see, 2 + 2", prompt))
    assert (cut.completion, cut.still_thinking) == ("", True)
    assert View.FULL.show(Sample("Let me see, 2 + 2", prompt)).still_thinking
    whole = View.ANSWER.show(Sample("Let me see.</think>\n\n4", prompt))
    assert (whole.completion, whole.still_thinking) == ("4", False)
    assert View.ANSWER.show(whole) == whole, "what was shown once is an answer, whatever the prompt"
    closed = Sample("4", prompt + "\n</think>\n\n")
    assert View.ANSWER.show(closed) is closed


def test_a_text_without_thinking_is_all_answer():
    assert answer_of("In HTML, <think> is no tag.") == "In HTML, <think> is no tag."


def test_only_line_breaks_between_thinking_and_answer_are_dropped():
    assert answer_of("<think>x</think>\n\n  4") == "  4"


def test_a_second_closing_tag_hides_nothing():
    assert answer_of("<think>x</think>much to read</think>short") == "much to read</think>short"


def test_of_a_conversation_the_last_assistant_message_is_seen():
    completion = [*assistant("first"), {"role": "tool", "content": "42"}, *assistant("<think>so</think>last")]
    assert View.FULL.show(Sample(completion)).completion == "<think>so</think>last"
    assert View.ANSWER.show(Sample(completion)).completion == "last"


def test_of_a_conversational_prompt_the_last_user_message_is_seen():
    prompt = [{"role": "user", "content": "a"}, *assistant("b"), {"role": "user", "content": "c"}]
    assert View.ANSWER.show(Sample("x", prompt)).prompt == "c"


def test_a_prompt_may_be_shown_whole_whatever_is_seen_of_the_completion():
    prompt = [{"role": "system", "content": "a"}, {"role": "user", "content": "c"}]
    (shown,) = View.ANSWER.show_all([Sample(assistant("<think>so</think>last"), prompt)], whole_prompts=True)
    assert (shown.completion, shown.prompt) == ("last", prompt)


def test_text_parts_are_joined_and_others_left_out():
    parts = [{"type": "text", "text": "a"}, {"type": "image", "image": 1}, {"type": "text", "text": "b"}]
    assert View.FULL.show(Sample(assistant(parts))).completion == "ab"


def test_a_message_without_content_is_an_empty_text():
    assert View.FULL.show(Sample(assistant(None))).completion == ""
    assert View.FULL.show(Sample([{"role": "assistant"}])).completion == ""
    assert View.FULL.show(Sample([])).completion == ""


@given(TEXTS | CONVERSATIONS)
def test_size_is_that_of_all_text_in_utf8(text):
    texts = [text] if isinstance(text, str) else [content_text(message["content"]) for message in text]
    assert text_bytes(text) == sum(len(each.encode()) for each in texts)


def parsed(**message):
    """A completion as TRL has it where the tokenizer has a response template."""
    return [{"role": "assistant", **message}]


@given(KEYS, THOUGHTS, TEXTS.filter(bool))
def test_thoughts_that_a_parser_took_apart_are_no_part_of_the_answer_but_of_the_full_text(key, thoughts, answer):
    sample = Sample(parsed(content=answer, **{key: thoughts}))
    shown = View.ANSWER.show(sample)
    assert (shown.completion, shown.still_thinking) == (answer.lstrip("\r\n"), False)
    assert View.FULL.show(sample).completion == f"<think>\n{thoughts}\n</think>\n\n{answer}"


@given(KEYS, st.sampled_from(["", None]))
def test_thoughts_that_nothing_follows_are_unfinished(key, nothing):
    shown = View.ANSWER.show(Sample(parsed(content=nothing, **{key: "Let me see"})))
    assert (shown.completion, shown.still_thinking) == ("", True)
    assert View.FULL.show(Sample(parsed(content=nothing, **{key: "Let me see"}))).completion == "<think>\nLet me see"


def test_thoughts_before_a_call_of_a_tool_are_finished():
    calls = [{"type": "function", "function": {"name": "f", "arguments": {}}}]
    shown = View.ANSWER.show(Sample(parsed(content="", reasoning_content="I need f", tool_calls=calls)))
    assert (shown.completion, shown.still_thinking) == ("", False)


def test_thoughts_count_towards_the_size_of_a_completion():
    assert text_bytes(parsed(content="4", reasoning_content="x" * 1000)) > 1000
