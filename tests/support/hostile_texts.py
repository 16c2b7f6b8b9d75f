"""Texts that a policy may write to slow or break what reads them."""

from __future__ import annotations

from hypothesis import strategies as st

BOMBS = {
    "braces": "{" * 200_000,
    "pairs of braces": "{}" * 100_000,
    "boxes never closed": r"\boxed{" * 30_000,
    "boxes in boxes": r"\boxed{" * 3_000 + "}" * 3_000,
    "backslashes": "\\" * 200_000,
    "brackets": "[" * 100_000 + "]" * 100_000,
    "objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "digits": "7" * 5_000,
    "boxed digits": r"\boxed{" + "7" * 5_000 + "}",
    "a number in a list": f"[{'7' * 5_000}]",
    "groups of digits": "111," * 50_000,
    "fractions": "1/" * 100_000,
    "exponents": "1e" * 100_000,
    "a huge exponent": "1e999999999",
    "blanks": " " * 300_000,
    "line breaks": "\n" * 300_000,
    "lines": "a\n" * 100_000,
    "opening tags": "<answer>" * 30_000,
    "closing tags": "</answer>" * 30_000,
    "phrases": "The answer is " * 20_000,
    "letters": "(B) " * 50_000,
    "options": "option B " * 20_000,
    "stars": "*" * 200_000,
    "fences": "```json\n" * 30_000,
    "a's": "a" * 300_000 + "b",
    "surrogates": "\ud800" * 1_000 + "\udfff \\boxed{\ud800}",
    "zeros": "\0" * 100_000,
    "marks on a letter": "e" + "\u0301\u0323" * 20_000,
    "ligatures": "\ufdfa" * 20_000,
    "empty": "",
}

ANY_TEXT = st.text(st.characters(exclude_categories=())) | st.lists(
    st.sampled_from(
        [
            *("{", "}", "\\boxed{", "\\text{", "\\frac{1}{2}", "<answer>", "</answer>", "####", "The answer is ", "Answer: ", "\n"),
            *("A", "B", "(B)", "**", " or ", "1", "-", "1,234", ".5", "1e9", "1/0", "50%", "$", "=", "[", "]", '"a":', ","),
            *("```json\n", "```", "<think>", "</think>", "NaN", "\ud800", "\0", "日本語", " "),
        ]
    )
).map("".join)  # fmt: skip
"""Any text at all, lone halves of surrogate pairs included, and texts made of what scorers look for."""
