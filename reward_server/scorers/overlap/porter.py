"""Porter's algorithm, which strips English words of their endings, as the ROUGE of `rouge_score` uses it.

M. Porter, An algorithm for suffix stripping, Program 14.3 (1980), with the deviations of NLTK's stemmer, its default
mode: irregular words, four-letter words in -ies and -ied, -y only behind a consonant, -alli, -fulli and -logi.
A word's *measure* is how often in it a vowel is followed by a consonant.
"""

from __future__ import annotations

from typing import Final

IRREGULAR: Final = {
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "innings": "inning",
    "outings": "outing",
    "cannings": "canning",
    **{word: word for word in ("sky", "news", "inning", "outing", "canning", "howe", "proceed", "exceed", "succeed")},
}
NOT_STEMMED_CHARS: Final = 2

Endings = tuple[tuple[str, str], ...]

STEP_2: Final[Endings] = (
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
)
STEP_3: Final[Endings] = (
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
)
STEP_4: Final[Endings] = tuple(
    (ending, "")
    for ending in (
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism"),
        *("ate", "iti", "ous", "ive", "ize"),
    )
)


def stem(word: str) -> str:
    """Returns a lower-case word without its endings."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) <= NOT_STEMMED_CHARS:
        return word
    word = _y_to_i(_without_ed_and_ing(_singular(word)))
    word = _derived(word)
    word = _replaced(word, STEP_3, least=1)
    word = _replaced(word, STEP_4, least=2)
    return _without_last_letter(word)


def shape(word: str) -> str:
    """Returns c for each consonant of a word and v for each vowel; y is a vowel behind a consonant."""
    kinds = []
    last = "v"
    for letter in word:
        last = "v" if letter in "aeiou" or (letter == "y" and last == "c") else "c"
        kinds.append(last)
    return "".join(kinds)


def measure(word: str) -> int:
    """Returns how often a vowel is followed by a consonant."""
    return shape(word).count("vc")


def _ends_short(word: str) -> bool:
    """Returns whether it ends with consonant, vowel, consonant other than w, x and y, or is a vowel and a consonant."""
    kinds = shape(word)
    return (kinds.endswith("cvc") and word[-1] not in "wxy") or kinds == "vc"


def _replaced(word: str, endings: Endings, *, least: int) -> str:
    """Returns the word with the first ending that it has replaced, if what is before it has the measure."""
    for ending, replacement in endings:
        if word.endswith(ending):
            before = word.removesuffix(ending)
            if measure(before) < least or (ending == "ion" and before[-1] not in "st"):
                return word
            return before + replacement
    return word


def _singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == len("dies") else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _without_ed_and_ing(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == len("died") else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if measure(word[:-3]) else word
    for ending in ("ed", "ing"):
        before = word.removesuffix(ending)
        if before != word and "v" in shape(before):
            return _mended(before)
    return word


def _mended(word: str) -> str:
    """Returns a word from which -ed or -ing was taken as it was before: hopp is hop, conflat is conflate."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if word[-1:] == word[-2:-1] and shape(word)[-1] == "c":
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if measure(word) == 1 and _ends_short(word) else word


def _y_to_i(word: str) -> str:
    before = word.removesuffix("y")
    return before + "i" if before != word and len(before) > 1 and shape(before)[-1] == "c" else word


def _derived(word: str) -> str:
    while word.endswith("alli") and measure(word.removesuffix("alli")):
        word = word.removesuffix("li")
    if word.endswith("logi"):  # the l counts for the measure, so that geologi is shortened too
        return word[:-1] if measure(word[:-3]) else word
    return _replaced(word, STEP_2, least=1)


def _without_last_letter(word: str) -> str:
    before = word.removesuffix("e")
    if before != word and (measure(before) > 1 or (measure(before) == 1 and not _ends_short(before))):
        word = before
    return word[:-1] if word.endswith("ll") and measure(word[:-1]) > 1 else word
