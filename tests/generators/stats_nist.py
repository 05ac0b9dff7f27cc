"""Writes tests/data/stats/nist.json.

Linear regression reference data of the NIST Statistical Reference Datasets
(https://www.itl.nist.gov/div898/strd/lls/lls.shtml; a publication of the United
States government, in the public domain), with the certified values.

Nothing is taken on trust: the certified coefficients, standard deviations and
R^2 are recomputed here from the data in exact rational arithmetic, and the
script stops unless all digits agree.

Run: python3 tests/generators/stats_nist.py   (standard library only)
"""

import json
import os
from decimal import Decimal, getcontext
from fractions import Fraction

getcontext().prec = 60

NORRIS_X = """0.2 337.4 118.2 884.6 10.1 226.5 666.3 996.3 448.6 777.0 558.2 0.4 0.6 775.5
666.9 338.0 447.5 11.6 556.0 228.1 995.8 887.6 120.2 0.3 0.3 556.8 339.1 887.2 999.0
779.0 11.1 118.3 229.2 669.1 448.9 0.5""".split()
NORRIS_Y = """0.1 338.8 118.1 888.0 9.2 228.1 668.5 998.5 449.1 778.9 559.2 0.3 0.1 778.1
668.8 339.3 448.9 10.8 557.7 228.3 998.0 888.8 119.6 0.3 0.6 557.6 339.3 888.0 998.5
778.9 10.2 117.6 228.9 668.4 449.2 0.2""".split()
PONTIUS_Y = """.11019 .21956 .32949 .43899 .54803 .65694 .76562 .87487 .98292 1.09146
1.20001 1.30822 1.41599 1.52399 1.63194 1.73947 1.84646 1.95392 2.06128 2.16844 .11052
.22018 .32939 .43886 .54798 .65739 .76596 .87474 .98300 1.09150 1.20004 1.30818 1.41613
1.52408 1.63159 1.73965 1.84696 1.95445 2.06177 2.16829""".split()
LONGLEY = """60323 83.0 234289 2356 1590 107608 1947
61122 88.5 259426 2325 1456 108632 1948
60171 88.2 258054 3682 1616 109773 1949
61187 89.5 284599 3351 1650 110929 1950
63221 96.2 328975 2099 3099 112075 1951
63639 98.1 346999 1932 3594 113270 1952
64989 99.0 365385 1870 3547 115094 1953
63761 100.0 363112 3578 3350 116219 1954
66019 101.2 397469 2904 3048 117388 1955
67857 104.6 419180 2822 2857 118734 1956
68169 108.4 442769 2936 2798 120445 1957
66513 110.8 444546 4681 2637 121950 1958
68655 112.6 482704 3813 2552 123366 1959
69564 114.2 502601 3931 2514 125368 1960
69331 115.7 518173 4806 2572 127852 1961
70551 116.9 554894 4007 2827 130081 1962"""
WAMPLER_Y = {
    1: """1 6 63 364 1365 3906 9331 19608 37449 66430 111111 177156 271453 402234 579195
813616 1118481 1508598 2000719 2613660 3368421""",
    2: """1.00000 1.11111 1.24992 1.42753 1.65984 1.96875 2.38336 2.94117 3.68928 4.68559
6.00000 7.71561 9.92992 12.75603 16.32384 20.78125 26.29536 33.05367 41.26528 51.16209
63.00000""",
    3: """760 -2042 2111 -1684 3888 1858 11379 17560 39287 64382 113159 175108 273291 400186
581243 811568 1121004 1506550 2002767 2611612 3369180""",
    4: """75901 -204794 204863 -204436 253665 -200894 214131 -185192 221249 -138370 315911
-27644 455253 197434 783995 608816 1370781 1303798 2205519 2408860 3444321""",
    5: """7590001 -20479994 20480063 -20479636 25231365 -20476094 20489331 -20460392 18417449
-20413570 20591111 -20302844 18651453 -20077766 21059195 -19666384 26348481 -18971402
22480719 -17866340 10958421""",
}
WAMPLER_SD = ["2152.32624678170", "2363.55173469681", "779.343524331583",
              "101.475507550350", "5.64566512170752", "0.112324854679312"]


def polynomial(x, degree):
    return [[str(Fraction(v) ** d) for v in x] for d in range(degree + 1)]


def scaled(values, factor):
    return [str(Decimal(v) * factor) for v in values]


def wampler(number, coefficients, sd, residual_sd, r_squared):
    return dict(name=f"Wampler{number}", columns=polynomial(range(21), 5),
                y=WAMPLER_Y[number].split(), coefficients=coefficients, sd=sd,
                residual_sd=residual_sd, r_squared=r_squared)


ONES = ["1"] * 6
SETS = [
    dict(name="Norris", columns=polynomial(NORRIS_X, 1), y=NORRIS_Y,
         coefficients=["-0.262323073774029", "1.00211681802045"],
         sd=["0.232818234301152", "0.429796848199937E-03"],
         residual_sd="0.884796396144373", r_squared="0.999993745883712"),
    dict(name="Pontius", columns=polynomial([150000 * (1 + i % 20) for i in range(40)], 2),
         y=PONTIUS_Y,
         coefficients=["0.673565789473684E-03", "0.732059160401003E-06",
                       "-0.316081871345029E-14"],
         sd=["0.107938612033077E-03", "0.157817399981659E-09", "0.486652849992036E-16"],
         residual_sd="0.205177424076185E-03", r_squared="0.999999900178537"),
    dict(name="NoInt1", columns=[[str(60 + i) for i in range(11)]],
         y=[str(130 + i) for i in range(11)], coefficients=["2.07438016528926"],
         sd=["0.165289256198347E-01"], residual_sd="3.56753034006338",
         r_squared="0.999365492298663"),
    dict(name="NoInt2", columns=[["4", "5", "6"]], y=["3", "4", "4"],
         coefficients=["0.727272727272727"], sd=["0.420827318078432E-01"],
         residual_sd="0.369274472937998", r_squared="0.993348115299335"),
    dict(name="Longley",
         columns=[["1"] * 16] + [[row.split()[j] for row in LONGLEY.splitlines()]
                                 for j in range(1, 7)],
         y=[row.split()[0] for row in LONGLEY.splitlines()],
         coefficients=["-3482258.63459582", "15.0618722713733", "-0.358191792925910E-01",
                       "-2.02022980381683", "-1.03322686717359", "-0.511041056535807E-01",
                       "1829.15146461355"],
         sd=["890420.383607373", "84.9149257747669", "0.334910077722432E-01",
             "0.488399681651699", "0.214274163161675", "0.226073200069370",
             "455.478499142212"],
         residual_sd="304.854073561965", r_squared="0.995479004577296"),
    wampler(1, ONES, ["0"] * 6, "0", "1"),
    wampler(2, ["1", "0.1", "0.01", "0.001", "0.0001", "0.00001"], ["0"] * 6, "0", "1"),
    wampler(3, ONES, WAMPLER_SD, "2360.14502379268", "0.999995559025820"),
    wampler(4, ONES, scaled(WAMPLER_SD, 100), "236014.502379268", "0.957478440825662"),
    wampler(5, ONES, scaled(WAMPLER_SD, 10000), "23601450.2379268",
            "0.224668921574940E-02"),
]


def solve(a, b):
    """Gauss-Jordan in rationals: a^-1 b for a square a and several right sides."""
    n = len(a)
    m = [row[:] + rhs[:] for row, rhs in zip(a, b)]
    for c in range(n):
        p = next(r for r in range(c, n) if m[r][c] != 0)
        m[c], m[p] = m[p], m[c]
        m[c] = [v / m[c][c] for v in m[c]]
        for r in range(n):
            if r != c and m[r][c] != 0:
                m[r] = [v - m[r][c] * w for v, w in zip(m[r], m[c])]
    return [row[n:] for row in m]


def root(fraction):
    return (Decimal(fraction.numerator) / Decimal(fraction.denominator)).sqrt()


def agree(name, certified, exact):
    """All printed digits must agree, with one unit in the last place."""
    certified = Decimal(certified)
    if isinstance(exact, Fraction):
        exact = Decimal(exact.numerator) / Decimal(exact.denominator)
    digits = Decimal("1.5E-14") * max(abs(certified), Decimal("1E-40"))
    assert abs(certified - exact) <= digits, (name, certified, exact)


def verify(data):
    x = [[Fraction(v) for v in c] for c in data["columns"]]
    y = [Fraction(v) for v in data["y"]]
    n, k = len(y), len(x)
    gram = [[sum(p * q for p, q in zip(a, b)) for b in x] for a in x]
    identity = [[Fraction(int(i == j)) for j in range(k)] for i in range(k)]
    inverse = solve(gram, identity)
    xy = [sum(p * q for p, q in zip(a, y)) for a in x]
    beta = [sum(p * q for p, q in zip(row, xy)) for row in inverse]
    fitted = [sum(beta[j] * x[j][i] for j in range(k)) for i in range(n)]
    rss = sum((a - b) ** 2 for a, b in zip(y, fitted))
    intercept = all(v == 1 for v in x[0])
    mean = sum(y) / n if intercept else 0
    tss = sum((v - mean) ** 2 for v in y)
    variance = rss / (n - k)
    for j in range(k):
        agree((data["name"], "coefficient", j), data["coefficients"][j], beta[j])
        agree((data["name"], "sd", j), data["sd"][j], root(variance * inverse[j][j]))
    agree((data["name"], "residual sd"), data["residual_sd"], root(variance))
    agree((data["name"], "R^2"), data["r_squared"], 1 - rss / tss)
    return intercept


def main():
    out = []
    for data in SETS:
        intercept = verify(data)
        out.append(dict(
            name=data["name"], intercept=intercept,
            columns=[[float(Fraction(v)) for v in c] for c in data["columns"]],
            y=[float(v) for v in data["y"]],
            coefficients=[float(v) for v in data["coefficients"]],
            sd=[float(v) for v in data["sd"]],
            residual_sd=float(data["residual_sd"]), r_squared=float(data["r_squared"])))
        print(data["name"], "verified")
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.path.join(here, "..", "data", "stats", "nist.json")
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(d) for d in out) + "\n]\n")


if __name__ == "__main__":
    main()
