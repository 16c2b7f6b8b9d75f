"""Prompts that a recipe rendered through a chat template are read back as conversations; all others stay texts."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from small_model import needs_model
from small_tokenizer import small_tokenizer

from reward_server.judge.chat_text import conversation_of

BEGIN_DS, END_DS = "<\uff5cbegin▁of▁sentence\uff5c>", "<\uff5cend▁of▁sentence\uff5c>"


def turns(header: str, end: str, begin: str = "", generation: str | None = None, names: str = "{}") -> str:
    """Returns a template in which all roles look alike; in `header` ROLE stands for the role."""
    header = header.replace("ROLE", "{{ names.get(m.role, m.role) }}")
    generation = header.replace("m.role, m.role", "'assistant', 'assistant'") if generation is None else generation
    loop = f"{{% for m in messages %}}{header}{{{{ m.content }}}}{end}{{% endfor %}}"
    names = f"{{% set names = {names} %}}"
    return f"{names}{begin}{loop}{{% if add_generation_prompt %}}{generation}{{% endif %}}"


def by_role(system: str, user: str, assistant: str, begin: str = "", generation: str = "") -> str:
    """Returns a template in which each role has a shape of its own; TEXT stands for the content."""
    shapes = [
        f"{{% {'if' if role == 'system' else 'elif'} m.role == '{role}' %}}{shape.replace('TEXT', '{{ m.content }}')}"
        for role, shape in (("system", system), ("user", user), ("assistant", assistant))
    ]
    loop = f"{{% for m in messages %}}{''.join(shapes)}{{% endif %}}{{% endfor %}}"
    return f"{begin}{loop}{{% if add_generation_prompt %}}{generation}{{% endif %}}"


# The shapes of the families' templates, from their published descriptions.
TEMPLATES = {
    "ChatML": turns("<|im_start|>ROLE\n", "<|im_end|>\n"),
    "ChatML, thinking opened": turns(
        "<|im_start|>ROLE\n", "<|im_end|>\n", generation="<|im_start|>assistant\n<think>\n"
    ),
    "ChatML, thinking skipped": turns(
        "<|im_start|>ROLE\n", "<|im_end|>\n", generation="<|im_start|>assistant\n<think>\n\n</think>\n\n"
    ),
    "InternLM": turns("<|im_start|>ROLE\n", "<|im_end|>\n", begin="<s>"),
    "LFM": turns("<|im_start|>ROLE\n", "<|im_end|>\n", begin="<|startoftext|>"),
    "Phi 4": turns("<|im_start|>ROLE<|im_sep|>", "<|im_end|>"),
    "Kimi": turns("<|im_ROLE|>ROLE<|im_middle|>", "<|im_end|>"),
    "Llama 3": turns("<|start_header_id|>ROLE<|end_header_id|>\n\n", "<|eot_id|>", begin="<|begin_of_text|>"),
    "Llama 4": turns("<|header_start|>ROLE<|header_end|>\n\n", "<|eot|>", begin="<|begin_of_text|>"),
    "Llama 2": by_role(
        "<<SYS>>\nTEXT\n<</SYS>>\n\n",
        "{% if loop.index0 != 1 or messages[0].role != 'system' %}<s>[INST] {% endif %}TEXT [/INST]",
        " TEXT </s>",
    ).replace(
        "{% for m in messages %}",
        "{% if messages[0].role == 'system' %}<s>[INST] {% endif %}{% for m in messages %}",
        1,
    ),
    "Mistral": by_role("[SYSTEM_PROMPT]TEXT[/SYSTEM_PROMPT]", "[INST]TEXT[/INST]", "TEXT</s>", begin="<s>"),
    "Mistral, with blanks": by_role(
        "[SYSTEM_PROMPT] TEXT[/SYSTEM_PROMPT]", "[INST] TEXT[/INST]", " TEXT</s>", begin="<s>"
    ),
    "Gemma": turns("<start_of_turn>ROLE\n", "<end_of_turn>\n", begin="<bos>", names="{'assistant': 'model'}"),
    "Gemma 4": turns("<|turn>ROLE\n", "<turn|>\n", begin="<bos>", names="{'assistant': 'model'}"),
    "Gemma 4, thinking skipped": turns(
        "<|turn>ROLE\n", "<turn|>\n", "<bos>", "<|turn>model\n<|channel>thought\n<channel|>", "{'assistant': 'model'}"
    ),
    "Phi 3": turns("<|ROLE|>\n", "<|end|>\n"),
    "Phi 4 mini": turns("<|ROLE|>", "<|end|>"),
    "Zephyr": turns("<|ROLE|>\n", "</s>\n"),
    "Falcon 3": turns("<|ROLE|>\n", "\n"),
    "OLMo": by_role(
        "<|system|>\nTEXT\n",
        "<|user|>\nTEXT\n",
        "<|assistant|>\nTEXT<|endoftext|>\n",
        "<|endoftext|>",
        "<|assistant|>\n",
    ),
    "GLM": turns("<|ROLE|>\n", "", begin="[gMASK]<sop>"),
    "GLM 4.5, thinking skipped": turns("<|ROLE|>\n", "", "[gMASK]<sop>", "<|assistant|>\n<think></think>"),
    "DeepSeek": by_role(
        "TEXT", "<\uff5cUser\uff5c>TEXT", f"<\uff5cAssistant\uff5c>TEXT{END_DS}", BEGIN_DS, "<\uff5cAssistant\uff5c>"
    ),
    "DeepSeek R1": by_role(
        "TEXT",
        "<\uff5cUser\uff5c>TEXT",
        f"<\uff5cAssistant\uff5c>TEXT{END_DS}",
        BEGIN_DS,
        "<\uff5cAssistant\uff5c><think>\n",
    ),
    "DeepSeek V3.1": by_role(
        "TEXT",
        "<\uff5cUser\uff5c>TEXT",
        f"<\uff5cAssistant\uff5c></think>TEXT{END_DS}",
        BEGIN_DS,
        "<\uff5cAssistant\uff5c></think>",
    ),
    "DeepSeek V2": by_role("TEXT\n\n", "User: TEXT\n\n", f"Assistant: TEXT{END_DS}", BEGIN_DS, "Assistant:"),
    "gpt-oss": by_role(
        "<|start|>system<|message|>TEXT<|end|>",
        "<|start|>user<|message|>TEXT<|end|>",
        "<|start|>assistant<|channel|>final<|message|>TEXT<|end|>",
        generation="<|start|>assistant",
    ),
    "Command R": turns(
        "<|START_OF_TURN_TOKEN|><|ROLE_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        begin="<BOS_TOKEN>",
        names="{'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'}",
    ),
    "Command A": by_role(
        "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>TEXT<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>TEXT<|END_OF_TURN_TOKEN|>",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>TEXT<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
        "<BOS_TOKEN>",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    "Granite": turns("<|start_of_role|>ROLE<|end_of_role|>", "<|end_of_text|>\n"),
    "EXAONE": by_role(
        "[|system|]TEXT[|endofturn|]\n", "[|user|]TEXT\n", "[|assistant|]TEXT[|endofturn|]\n", "", "[|assistant|]"
    ),
    "Seed": turns("<seed:bos>ROLE\n", "<seed:eos>"),
    "Ling": turns(
        "<role>ROLE</role>",
        "<|role_end|>",
        names="{'system': 'SYSTEM', 'user': 'HUMAN', 'assistant': 'ASSISTANT'}",
    ),
    "MiniMax": turns("]~b]ROLE\n", "[e~[\n", begin="]~!b[", names="{'assistant': 'ai'}"),
    "Nemotron 4": by_role(
        "<extra_id_0>System\nTEXT\n",
        "<extra_id_1>User\nTEXT\n",
        "<extra_id_1>Assistant\nTEXT\n",
        "",
        "<extra_id_1>Assistant\n",
    ),
    "SmolVLM": turns(
        "ROLE: ",
        "<end_of_utterance>\n",
        begin="<|im_start|>",
        generation="Assistant:",
        names="{'system': 'System', 'user': 'User', 'assistant': 'Assistant'}",
    ),
}


@cache
def compiled(template: str) -> jinja2.Template:
    return jinja2.Environment(keep_trailing_newline=True).from_string(template)  # noqa: S701  # read by no browser


def rendered(family: str, messages: list[dict[str, str]], *, generation: bool = True) -> str:
    return compiled(TEMPLATES[family]).render(messages=messages, add_generation_prompt=generation)


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


SHORT = [message("user", "What is 2 + 2?")]
LONG = [
    message("system", "Be brief.\n\nUse digits."),
    message("user", "What is 2 + 2?"),
    message("assistant", "It is 4."),
    message("user", "And 3 + 3?\n\n- as a list\n\t- [with] <b>marks</b> | and `code`"),
]


@pytest.mark.parametrize("family", TEMPLATES)
@pytest.mark.parametrize("messages", [SHORT, LONG, LONG[1:]], ids=["one", "with system", "without system"])
def test_a_prompt_is_read_back(family, messages):
    assert conversation_of(rendered(family, messages)) == messages


# Falcon 3 neither begins a text nor ends a message with a token, so a last answer could be text behind a mention.
@pytest.mark.parametrize("family", sorted(TEMPLATES.keys() - {"Falcon 3"}))
def test_a_whole_conversation_is_read_back(family):
    messages = [*LONG, message("assistant", "It is 6.")]
    assert conversation_of(rendered(family, messages, generation=False)) == messages


# Contents as people write them: without blanks at the ends, which templates trim, and without a line that a family whose
# messages have no tokens of their own would take for one.
contents = (
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="<>[]\uff5c") | st.just("\n")
    )
    .map(str.strip)
    .filter(lambda text: text and "user:" not in text.lower() and "assistant:" not in text.lower())
)
conversations = st.builds(
    lambda system, pairs, last: [
        *([message("system", system)] if system else []),
        *(turn for user, assistant in pairs for turn in (message("user", user), message("assistant", assistant))),
        message("user", last),
    ],
    st.none() | contents,
    st.lists(st.tuples(contents, contents), max_size=3),
    contents,
)


@pytest.mark.parametrize("family", TEMPLATES)
@given(messages=conversations)
@example(messages=[message("user", "<")])
@example(messages=[message("user", "a <b> [c] </d>\n\n\n<e|")])
def test_any_conversation_is_read_back(family, messages):
    assert conversation_of(rendered(family, messages)) == messages


PLAIN = [
    "",
    "   \n",
    "What is 2 + 2?",
    "What does <|im_start|> mean in ChatML?",
    "<|im_start|> is a token. What is it for?",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_start|>user",
    "<|im_start|>user\nHello<|im_end|>\nand some text behind it",
    "Some text before <|im_start|>user\nHello<|im_end|>",
    "Explain this:\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "[INST] tags: what are they?",
    "[INST] and [/INST] are tags of Mistral. Which other ones are there?",
    "[1] and [2] are references. [INST",
    "<|user|> and <|assistant|> are tokens of Phi. What do they do?",
    "<|user|> is a token.",
    "<b>Bold</b> text in HTML: <i>what</i> is it?",
    "<s>struck out</s> text in HTML: what is it?",
    "<s>",
    "<bos>",
    "[gMASK]<sop>",
    "<start_of_turn>",
    "<|begin_of_text|>",
    "<|begin_of_text|>just a text behind it",
    "User: hello\n\nAssistant:",
    "user: hello\nassistant: hi\nuser: bye",
    "### Instruction:\nSay hi.\n\n### Response:\n",
    "USER: hello ASSISTANT:",
    "[|user|] is a token of EXAONE",
    "<role>HUMAN</role> is how Ling writes it",
    "<\uff5cUser\uff5c> begins a turn in DeepSeek",
    "<|start|> of a text",
    "<|im_start|>assistant\n",
    "<|im_start|>assistant\nHello<|im_end|>\n",
    "[] is an empty list",
    "<think>Hm.</think> Hello",
]


@pytest.mark.parametrize("text", PLAIN)
def test_a_text_that_only_mentions_tokens_stays_a_text(text):
    assert conversation_of(text) is None


@given(st.text(), st.sampled_from(sorted(TEMPLATES)))
def test_a_text_before_a_conversation_keeps_it_a_text(text, family):
    prefixed = f"Look: {text}{rendered(family, LONG)}"
    assert conversation_of(prefixed) is None


@given(
    st.lists(
        st.sampled_from(["<|im_start|>", "<|im_end|>", "user", "\n", "[INST]", "[/INST]", "<s>", "hi", "<|user|>"])
    )
)
def test_any_mix_of_tokens_is_read_or_left_alone(parts):
    found = conversation_of("".join(parts))
    assert found is None or all(set(message) == {"role", "content"} and message["content"] for message in found)


def test_the_beginning_of_the_completion_stays_with_the_assistant():
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nSure, here"
    assert conversation_of(text) == [message("user", "Hi"), message("assistant", "Sure, here")]


def test_roles_have_one_name_in_all_families():
    llama = "<|begin_of_text|><|start_header_id|>ipython<|end_header_id|>\n\n4<|eot_id|>"
    glm = "[gMASK]<sop><|user|>\nHi<|observation|>\n4<|assistant|>\n"
    harmony = "<|start|>functions.add to=assistant<|channel|>commentary<|message|>4<|end|><|start|>assistant"
    assert [conversation_of(text)[-1] for text in (llama, glm, harmony)] == [message("tool", "4")] * 3


def test_an_empty_message_is_left_out():
    text = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert conversation_of(text) == [message("user", "Hi")]


def test_a_huge_text_is_read_in_linear_time():
    text = rendered("ChatML", [message("user", "word " * 200_000)])
    assert len(conversation_of(text)) == 1
    for part in ("<|im_start|>", "[INST]", "<", "<|start|>a", "<|start_of_role|>a ", "\n\nUser:"):
        conversation_of("<s>" + part * (1_000_000 // len(part)))


def test_the_real_templates_that_trl_has():
    """TRL carries the templates of the families that it trains: each is read to the conversation that it rendered."""
    import trl
    from transformers.utils.chat_template_utils import render_jinja_template

    def text_of(template: str, messages: list[Any]) -> str:
        tokens = {"bos_token": "<bos>", "eos_token": "<eos>"}
        texts, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True, **tokens)
        return str(texts[0])

    paths = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
    assert len(paths) > 5
    parts = [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in LONG[1:]]
    misread = []
    for path in paths:
        template = path.read_text().replace("{% generation %}", "").replace("{% endgeneration %}", "")
        readable = []
        for messages in (LONG[1:], parts):  # templates of models that see want contents in parts, others texts
            try:
                readable.append(conversation_of(text_of(template, messages)))
            except (jinja2.TemplateError, TypeError):
                continue
        if not any(found is not None and found[-3:] == LONG[1:] for found in readable):
            misread.append(path.name)
    assert misread == []


class TestWithTheSmallModelsTemplate:
    pytestmark = needs_model

    def test_what_apply_chat_template_makes_is_read_back(self):
        text = small_tokenizer().apply_chat_template(LONG, tokenize=False, add_generation_prompt=True)
        assert conversation_of(text) == LONG

    def test_a_system_message_that_the_template_adds_is_read_too(self):
        text = small_tokenizer().apply_chat_template(SHORT, tokenize=False, add_generation_prompt=True)
        found = conversation_of(text)
        assert [m["role"] for m in found] == ["system", "user"]
        assert found[1:] == SHORT


def test_blanks_behind_an_opened_thinking_block_take_no_time():
    text = "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n<think>" + " " * 200_000
    began = time.perf_counter()
    assert conversation_of(text) == [{"role": "user", "content": "Hello."}]
    assert conversation_of(f"{text}x")[-1]["content"].endswith("x")
    assert conversation_of(f"{text}</think>\n\n") == [{"role": "user", "content": "Hello."}]
    assert time.perf_counter() - began < 2.0
