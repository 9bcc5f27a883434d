"""Text that people have chosen, such as names of classes, folders and losses, as a figure shows it: to the letter."""

import functools
import logging
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 40  # characters of a name
_LONGEST_TICK = 24  # of one at an axis, which takes its room
_UNKNOWN = "□"  # in place of a character that cannot be drawn
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
    fonts = _fonts(frozenset(kept))
    shown = "".join(c if c.isprintable() and c not in fonts.missing else _UNKNOWN for c in kept)
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

    found = figure.findobj(Text)
    text = "".join(each.get_text() for each in found if isinstance(each, Text))
    return [*rcParams["font.family"], *_fonts(frozenset(text)).families]


class _Fonts:
    """Where some characters are drawn from.

    Attributes:
      families: to use beside the usual ones.
      missing: characters that no installed font has.
    """

    def __init__(self, families: Iterable[str] = (), missing: Iterable[str] = ()) -> None:
        self.families, self.missing = tuple(families), frozenset(missing)


@functools.lru_cache(maxsize=1024)
def _fonts(characters: frozenset[str]) -> _Fonts:
    """Look for fonts that have `characters`; a line in the log says for which there is none."""
    if all(c.isascii() for c in characters):
        return _Fonts()
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

    def has(path: str) -> set[str]:
        font = get_font(path)
        return {c for c in wanted if font.get_char_index(ord(c))}

    wanted = {c for c in characters if c.isprintable() and not c.isascii()}
    wanted -= has(findfont(FontProperties()))
    families: list[str] = []
    for entry in fontManager.ttflist if wanted else ():
        if entry.style == "normal" and not entry.name.startswith(_LAST_RESORT) and (found := has(entry.fname)):
            families.append(entry.name)
            wanted -= found
        if not wanted:
            break
    if wanted:
        shown = "".join(sorted(wanted)[:20])
        _log.warning("no installed font has %s: written as %s in figures; install one that has them", shown, _UNKNOWN)
    return _Fonts(families, wanted)
