"""Letters and digits as the tasks of WorkMATe show them: seven units, a binary number each.

Lower-case letters are the numbers 0 to 25 in the order of the alphabet, capital letters 26 to 51,
digits 64 to 73. The fixation mark "p" is the first unit alone, number 64 as well as the digit 0.

Reference:
  Kruijne, Bohte, Roelfsema & Olivers (2021), Neural Comput 33(1): 1-40; capitals, digits
  and the mark are coded as in the authors' program, which gives four lower-case letters codes of
  their own.
"""

import string

import numpy as np

UNITS = 7


def codes(symbols: str) -> np.ndarray:
    """Return the activity of the seven units for each of ``symbols``: float32[symbols, 7].

    Raises:
      ValueError: a symbol that is no letter of the English alphabet and no digit.

    >>> codes("A1p").astype(int).tolist()
    [[0, 0, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0]]
    """
    numbers = [_number(symbol) for symbol in symbols]
    rows = [[float(digit) for digit in f"{number:0{UNITS}b}"] for number in numbers]
    return np.array(rows, np.float32).reshape(-1, UNITS)


def _number(symbol: str) -> int:
    if symbol == "p":
        return 2 ** (UNITS - 1)
    if symbol in string.digits:
        return 2 ** (UNITS - 1) + int(symbol)
    if symbol not in string.ascii_letters:
        raise ValueError(f"a symbol must be a letter from a to z or a digit, got {symbol!r}")
    return string.ascii_letters.index(symbol)
