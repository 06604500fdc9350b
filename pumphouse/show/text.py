"""Text that others chose, such as names and descriptions, made safe to print."""

from __future__ import annotations

import unicodedata

# Controls, what is not seen (direction marks, soft hyphens, tags), surrogates, separators of lines and paragraphs.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Persian, the scripts of India and emoji are not spelled right without the joiners; the others are of category Cf
# but are seen: the number signs and verse marks of Arabic, Syriac and Kaithi.
_NEEDED = frozenset(
    "\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)


def is_hidden(char: str) -> bool:
    """Whether a character is not seen itself but may change what is seen around it."""
    return not char.isprintable() and unicodedata.category(char) in _HIDDEN and char not in _NEEDED


def printable(text: str) -> str:
    """The text on one line, each hidden character as Python would write it, e.g. `\\x1b`, `\\n` or `\\u202e`.

    A backslash stays as it is: names have some, and nothing is ever read back from this.
    """
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    return char.encode("unicode_escape").decode() if is_hidden(char) else char
