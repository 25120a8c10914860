"""Numbers as people and models write them."""

from __future__ import annotations

import pytest

from assay.scorers.last_number import last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("it is 1,234.5 km", 1234.5),
        ("-3", -3.0),
        ("from 2 to .5", 0.5),
        ("1e3", 1000.0),
        ("none", None),
        ("7.", 7.0),
        # signs stand before numbers, and not between two; a minus of print is one
        ("5-3", 3.0),
        ("10 - 4 = 6", 6.0),
        ("(-3)", -3.0),
        ("x=-3", -3.0),
        ("\u22123", -3.0),
        ("(2)-3", 3.0),
        # commas part groups of three
        ("1,2,3", 3.0),
        ("12,34", 34.0),
        ("$1,234,567.", 1234567.0),
        ("1,000/2,000", 0.5),
        ("it is 100,000, as shown", 100000.0),
        ("1,234,567,", 1234567.0),
        ("3/4", 0.75),
        ("-3 / 4", -0.75),
        ("\\boxed{\\frac{1}{2}}", 0.5),
        ("-\\dfrac{3}{4}", -0.75),
        ("1/0", None),
        ("12/25/2024", 2024.0),
        ("4 km/h", 4.0),
        ("50 %", 50.0),
        ("2^3", 3.0),
        ("1e999", None),
        ("a1b22c", 22.0),
        # groups of digits, of print and of LaTeX
        ("10{,}080", 10080.0),
        ("10,\\!080", 10080.0),
        ("10\\,080", 10080.0),
        ("1\u00a0000", 1000.0),
        ("1\u202f234\u202f567", 1234567.0),
        ("in 1 000", 0.0),
        # fractions: braces left out, whole numbers before them, signs apart
        ("\\frac12", 0.5),
        ("\\tfrac12", 0.5),
        ("\\frac{1}2", 0.5),
        ("\\frac1{20}", 0.05),
        ("\\frac{-1}{2}", -0.5),
        ("3\\frac{1}{2}", 3.5),
        ("-3\\frac12", -3.5),
        ("3 1/2", 3.5),
        ("-3 1/2", -3.5),
        ("3 4/2", 2.0),
        ("x_3 \\frac12", 0.5),
        ("- \\frac{3}{4}", -0.75),
        ("= - 3", -3.0),
        ("5 - \\frac{3}{4}", 0.75),
        ("5-\\frac{3}{4}", 0.75),
        ("1/-2", -0.5),
        ("\\frac{1}{0}", 0.0),
        # money, and dashes of print
        ("-$3", -3.0),
        ("-\\$3.50", -3.5),
        ("$5-$3", 3.0),
        ("$5$-$3$", 3.0),
        ("\u20133", -3.0),
        ("5\u20133", 3.0),
        ("2019\u20132024", 2024.0),
        # dashes of lists, and numbers below one another
        ("- one\n- 2 of them", 2.0),
        ("- 3 apples", 3.0),
        ("- 3", -3.0),
        ("3\n1/2", 0.5),
    ],
)
def test_last_numbers(text: str, number: float | None) -> None:
    assert last_number(text) == number
