"""What the tests of expressions share: random expressions, and their values by sympy and NumPy."""

import numpy as np
import sympy
from scipy import special

from edl_jax.loss import expression as ex
from edl_jax.loss.expression import nlfs
from edl_jax.loss.expression.operators import arity

FORMULAS = {
    "cross_entropy": "-y*ln(p)",
    "focal": "-y*(1-p)^2*ln(p)",
    "ace": "y*abs(ln(1.1*p))",
    "brier": "(p-y)^2",
    "mae": "abs(p-y)/2",
    "gce": "y*(1-p^0.7)/0.7",
    "poly1": "y*(2*(1-p) - log(p))",
}
"""Formulas of losses that the zoo has, with their default hyper-parameters."""


GENOME_OPERATORS = tuple({**dict.fromkeys(ex.evomal.OPERATORS.values()), **dict.fromkeys(nlfs.UNARY + nlfs.BINARY)})
"""The operators of EvoMAL and NLFS, which have no singular point at 0."""


def random_expression(rng, size, operators=tuple(ex.OPERATORS), constants=(1.0, -1.0)):
    """Return an expression of at most `size` nodes; the exponent of `power` is a number, as sympy needs to know it."""
    nodes, missing = [], 1
    while missing:
        room = size - len(nodes) - missing
        names = [name for name in operators if arity(name) <= room]
        if names and rng.random() < 0.8:
            name = names[rng.integers(len(names))]
            if name == "power":
                base = random_expression(rng, room - 1, operators, constants)
                nodes += [ex.Node(name), *base.nodes, ex.Node("constant", float(rng.choice([3.0, 0.5, -1.0, 1.5])))]
                missing -= 1
                continue
            nodes.append(ex.Node(name))
            missing += arity(name) - 1
        else:
            nodes.append(
                [ex.Node("y"), ex.Node("p"), ex.Node("p"), ex.Node("constant", rng.choice(constants))][rng.integers(4)]
            )
            missing -= 1
    return ex.Expression(tuple(nodes))


def suits_sympy(expression):
    """Return whether sympy can print the expression soon.

    Its printers evaluate parts without y and p to many digits, and repeat the argument of some operators.
    """
    largest = 0

    def count(node, sizes):
        nonlocal largest
        if node.name in ex.TERMINALS or None in sizes:
            return None
        largest = max(largest, 1 + sum(sizes))
        return 1 + sum(sizes)

    expression.fold(count)
    twice = sum(node.name in ("softsign", "sigmoid_slope", "bessel_i0e", "bessel_i1e") for node in expression.nodes)
    return largest <= 6 and twice <= 5


def growing(function):
    return lambda x: np.where(np.abs(x) > 700.0, np.nan, function(x))


GUARDED = {
    "log": lambda x: np.where(np.abs(x) < 1e-30, np.nan, np.log(x)),
    "exp": growing(np.exp),
    "sinh": growing(np.sinh),
    "iv": lambda order, x: growing(lambda x: special.iv(order, x))(x),
}


def reference(expression, weights=None):
    """Return the function of (y, p), arrays, that sympy's lambdify makes of an expression as it stands.

    NaN where the engine is guarded: for an expression that divides by 0 somewhere, and at points where something
    overflows or a logarithm is taken of nearly 0.
    """
    built = ex.to_sympy(expression, weights)
    y, p = sympy.Symbol("y", nonnegative=True), sympy.Symbol("p", positive=True)
    function = sympy.lambdify((y, p), built, modules=[GUARDED, "scipy", "numpy"])

    def values(y, p):
        with np.errstate(all="ignore", divide="raise"):
            try:
                found = function(y, p)
            except (FloatingPointError, ZeroDivisionError):
                found = np.nan
        return np.broadcast_to(np.asarray(found, np.float64), p.shape)

    return values


def slope(function, y, p, step):
    """Return the derivative in p by central differences of fourth order."""
    f = [function(y, p + k * step) for k in (-2, -1, 1, 2)]
    with np.errstate(all="ignore"):
        return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step)


def smooth(expected, function, y, p):
    """Return (slopes, where they can be trusted): not beside a kink or a pole."""
    coarse, fine = slope(function, y, p, 2e-4), slope(function, y, p, 1e-4)
    with np.errstate(all="ignore"):
        scale = 1.0 + np.abs(expected) + np.abs(fine)
        trusted = np.isfinite(expected) & (scale < 1e6) & (np.abs(coarse - fine) < 1e-7 * scale)
    return fine, trusted
