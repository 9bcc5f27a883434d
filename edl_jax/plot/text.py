"""Text that people have chosen, such as names of classes, folders and losses, as a figure shows it: to the letter."""

import functools
import logging
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 40  # characters of a name
_LONGEST_TICK = 24  # of one at an axis, which takes its room
_UNKNOWN = "□"  # in place of a character that cannot be drawn
_USUAL = ""
_LAST_RESORT = "Last Resort"  # fonts that have a box for every character
_log = logging.getLogger("edl_jax")


def literal(text: object, longest: int = _LONGEST, *, width: int | None = None) -> str:
    """Return what Matplotlib draws as `text`, whatever is in it: never mathtext or TeX, never hidden from a legend.

    White space, line ends among it, becomes single spaces. A character that no installed font has is a box.

    Args:
      text: what a person has typed, or a file's or folder's name.
      longest: characters that are kept, an ellipsis being the last where there are more.
      width: characters of a line, where the text is to be wrapped.
    """
    kept = "".join(c for c in " ".join(str(text).split()) if unicodedata.category(c) != "Cf")
    kept = kept if len(kept) <= longest else kept[: longest - 1] + "…"
    shown = "".join(c if c.isprintable() and _family(c) is not None else _UNKNOWN for c in kept)
    if shown.startswith("_") or not shown:
        shown = f" {shown}"  # a legend leaves out what begins with an underscore, and what is empty
    # Escaped last: a line must not break between the two.
    return (shown if width is None else textwrap.fill(shown, width)).replace("$", r"\$")


def literals(names: Sequence[object]) -> list[str]:
    """Return `literal` of the names at an axis, with their numbers where they could not be told apart."""
    shown = [literal(name, _LONGEST_TICK) for name in names]
    return shown if len(set(shown)) == len(shown) else [f"{i} {name}" for i, name in enumerate(shown)]


def font_families(figure: "Figure") -> list[str]:
    """Return the font families that have the characters of a figure: the usual ones and those that they lack."""
    from matplotlib import rcParams
    from matplotlib.text import Text

    text = "".join(each.get_text() for each in figure.findobj(Text) if isinstance(each, Text))
    others = {_family(c) for c in text if c.isprintable()} - {None, _USUAL}
    return [*rcParams["font.family"], *sorted(filter(None, others))]


@functools.lru_cache(maxsize=65_536)
def _family(character: str) -> str | None:
    """Return a font family that has a character, `_USUAL` for those in use; None where no installed font has it."""
    if character.isascii():
        return _USUAL
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    if ord(character) in _characters(findfont(FontProperties())):
        return _USUAL
    for entry in fontManager.ttflist:
        usable = entry.style == "normal" and not entry.name.startswith(_LAST_RESORT)
        if usable and ord(character) in _characters(entry.fname):
            return entry.name
    _say_missing()
    return None


@functools.cache
def _characters(path: str) -> frozenset[int]:
    """Return the code points that a font file has; a file that cannot be read has none."""
    from matplotlib.font_manager import get_font

    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # removed since Matplotlib listed it, or damaged
        return frozenset()


@functools.cache
def _say_missing() -> None:
    """Say once that characters are missing."""
    _log.warning("no installed font has some characters of the names in figures: they are %s there", _UNKNOWN)
