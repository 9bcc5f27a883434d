"""What an error says, in a line."""

import pytest

from edl_jax.core.errors import one_line, reason


def test_line_ends_become_spaces_and_the_end_is_cut_where_a_length_is_given():
    text = " two\n  lines\tand\r\nmore "
    assert one_line(text) == one_line(text, 18) == "two lines and more"
    assert one_line(text, 10) == "two lines…"
    assert len(one_line("x" * 10_000)) == 10_000


@pytest.mark.parametrize(
    ("error", "said", "with_kind"),
    [
        (ValueError("bad\nnumber"), "bad number", "ValueError: bad number"),
        (AssertionError(), "AssertionError", "AssertionError"),
        (OSError(" \n"), "OSError", "OSError"),
        (TypeError("x" * 1000), "x" * 199 + "…", "TypeError: " + "x" * 199 + "…"),
    ],
)
def test_the_reason_is_what_the_error_says_or_its_kind(error, said, with_kind):
    assert reason(error) == said
    assert reason(error, kind=True) == with_kind
