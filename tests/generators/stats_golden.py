"""Writes tests/data/stats/golden.json: reference numbers from SciPy and statsmodels.

Run: pip install numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
     python3 tests/generators/stats_golden.py
"""

import json
import os

import numpy as np
import scipy
import statsmodels
import statsmodels.api as sm
from scipy import integrate, optimize, stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

rng = np.random.default_rng(20240229)


def rounded(a, digits=6):
    """Inputs are rounded so that the file holds them exactly."""
    return np.round(np.asarray(a, float), digits)


def holm_cases():
    cases = []
    for n in (1, 2, 5, 12):
        p = rounded(rng.beta(0.4, 2.0, n))
        cases.append(dict(p=p.tolist(), adjusted=multipletests(p, method="holm")[1].tolist()))
    ties = [0.01, 0.01, 0.2, 0.0, 1.0, 0.2]
    cases.append(dict(p=ties, adjusted=multipletests(ties, method="holm")[1].tolist()))
    return cases


def wilson_cases():
    out = []
    for k, n, level in [(0, 10, 0.95), (10, 10, 0.95), (3, 17, 0.9), (512, 1000, 0.99), (1, 1, 0.95)]:
        low, high = proportion_confint(k, n, alpha=1 - level, method="wilson")
        out.append(dict(successes=k, trials=n, confidence=level, lower=low, upper=high))
    return out


def mean_cases():
    out = []
    for n in (2, 5, 30):
        v = rounded(rng.normal(3.0, 0.7, n))
        low, high = stats.t.interval(0.95, n - 1, v.mean(), stats.sem(v))
        out.append(dict(values=v.tolist(), mean=v.mean(), se=stats.sem(v), lower=low, upper=high))
    return out


def p_outside(deviation, se, df, margin):
    law = stats.norm if df is None else stats.t(df)
    d = abs(deviation)
    return law.sf((d - margin) / se) + law.sf((d + margin) / se)


def tost_cases():
    out = []
    for n, shift, target, margin in [(12, 0.05, 0.0, 0.2), (5, 0.3, 0.0, 0.2), (40, -0.4, -0.35, 0.15),
                                     (8, 1.02, 1.0, 0.15), (9, 2.0, 1.0, 0.5)]:
        v = rounded(rng.normal(shift, 0.25, n))
        p, _, _ = DescrStatsW(v).ttost_mean(target - margin, target + margin)
        se = stats.sem(v)
        out.append(dict(estimate=v.mean(), se=se, df=float(n - 1), target=target, margin=margin,
                        p_equivalent=p, p_outside=p_outside(v.mean() - target, se, n - 1, margin)))
    out.append(dict(estimate=1.1, se=0.04, df=None, target=1.0, margin=0.15,
                    p_equivalent=stats.norm.sf(0.05 / 0.04), p_outside=p_outside(0.1, 0.04, None, 0.15)))
    return out


def design(levels, repeats):
    grid = np.stack(np.meshgrid(*[np.log(l) for l in levels], indexing="ij"), -1)
    return rounded(np.repeat(grid.reshape(-1, len(levels)), repeats, axis=0))


def centred(x):
    return sm.add_constant(x - x.mean(0), has_constant="add")


def regression_cases():
    """OLS and WLS with HC3; Paule-Mandel tau^2 by brentq on its definition."""
    out = []
    for name, levels, se_range, tau in [
        ("ols", [[8, 16, 32], [64, 128, 256], [2, 3]], None, 0.1),
        ("wls", [[8, 16, 32, 64], [64, 128, 256]], (0.02, 0.15), 0.12),
        ("wls no scatter", [[8, 16, 32, 64], [64, 128]], (0.2, 0.3), 0.0),
        ("one factor", [[4, 8, 16, 32, 64]], (0.01, 0.05), 0.05),
    ]:
        x = design(levels, 1)
        n, p = x.shape
        slopes = np.linspace(1.0, -0.5, p)
        se = None if se_range is None else rounded(rng.uniform(*se_range, n))
        noise = rng.normal(0, tau, n) + (0 if se is None else 0.6 * rng.normal(0, se))
        y = rounded(2.0 + x @ slopes + noise)
        xc = centred(x)
        case = dict(name=name, x=x.tolist(), y=y.tolist())
        if se is None:
            model = sm.OLS(y, xc).fit()
            robust = sm.OLS(y, xc).fit(cov_type="HC3")
            case.update(se=None, tau2=None, q=None)
            model_error = model.bse
            squares = [xc[:, j] ** 2 for j in range(1, p + 1) if len(set(x[:, j - 1])) > 2]
            products = [xc[:, a] * xc[:, b] for a in range(1, p + 1) for b in range(a + 1, p + 1)]
            quadratic = sm.OLS(y, np.column_stack([xc, *squares, *products]))
            f, pf, _ = quadratic.fit().compare_f_test(model)
            case.update(curvature=dict(f=f, p=pf))
        else:
            def excess(t2):
                return (sm.WLS(y, xc, weights=1 / (t2 + se**2)).fit().wresid ** 2).sum() - (n - p - 1)
            tau2 = 0.0 if excess(0.0) <= 0 else optimize.brentq(excess, 0.0, 10.0, xtol=1e-16, rtol=1e-14)
            weights = 1 / (tau2 + se**2)
            model = sm.WLS(y, xc, weights=weights).fit(cov_type="fixed scale", cov_kwds={"scale": 1.0})
            robust = sm.WLS(y, xc, weights=weights).fit(cov_type="HC3")
            case.update(se=se.tolist(), tau2=tau2, q=excess(0.0) + n - p - 1, curvature=None)
            model_error = model.bse
        influence = sm.OLS(robust.model.wendog, robust.model.wexog).fit().get_influence()
        case.update(coefficients=robust.params.tolist(), model_error=np.asarray(model_error).tolist(),
                    hc3_error=robust.bse.tolist(), r_squared=robust.rsquared,
                    leverage=influence.hat_matrix_diag.tolist())
        out.append(case)
    return out


def paule_mandel_mean():
    """Intercept only: statsmodels' own iterated estimator."""
    y = rounded(rng.normal(0.3, 0.6, 10))
    v = rounded(rng.uniform(0.005, 0.04, 10))
    fit = combine_effects(y, v, method_re="iterated", atol=1e-15)
    return dict(y=y.tolist(), variance=v.tolist(), tau2=float(fit.tau2))


class ChanceProbit(sm.families.links.CDFLink):
    """p = lo + (1 - lo) Phi(eta)."""

    def __init__(self, lo):
        super().__init__(stats.norm)
        self.lo = lo

    def __call__(self, p):
        return stats.norm.ppf(np.clip((p - self.lo) / (1 - self.lo), 1e-10, 1 - 1e-10))

    def inverse(self, z):
        return self.lo + (1 - self.lo) * stats.norm.cdf(z)

    def deriv(self, p):
        return 1 / ((1 - self.lo) * stats.norm.pdf(self(p)))


def fieller(b, cov, z, t):
    """Ends of {u : (b0 + b1 u - z)^2 <= t^2 Var(b0 + b1 u)}, by root search."""
    def f(u):
        return (b[0] + b[1] * u - z) ** 2 - t * t * (cov[0, 0] + 2 * u * cov[0, 1] + u * u * cov[1, 1])
    u = (z - b[0]) / b[1]
    step = 1e-3
    low = high = u
    while f(low) < 0:
        low -= step
    while f(high) < 0:
        high += step
    return (optimize.brentq(f, low, low + step, xtol=1e-15),
            optimize.brentq(f, high - step, high, xtol=1e-15))


def probit_cases():
    out = []
    for lo, target, slope, n, sd, seeds in [(0.0, 0.5, 2.0, 64, 0.0, 4), (0.0, 0.5, 2.0, 256, 0.3, 6),
                                            (0.1, 0.55, 1.5, 128, 0.2, 5), (0.25, 0.6, 2.5, 40, 0.0, 8),
                                            (0.0, 0.5, 0.35, 30, 0.2, 6)]:
        x = np.repeat(rounded(7.0 + np.array([-0.6, -0.3, 0.0, 0.3, 0.6])), seeds)
        z = stats.norm.ppf((target - lo) / (1 - lo))
        eta = z + slope * (x - 7.05) + sd * rng.normal(size=x.size)
        k = rng.binomial(n, lo + (1 - lo) * stats.norm.cdf(eta)).astype(float)
        rows = x.size
        u = x - x.mean()
        fit = sm.GLM(np.column_stack([k, n - k]), sm.add_constant(u),
                     family=sm.families.Binomial(link=ChanceProbit(lo))).fit(tol=1e-14, maxiter=200)
        b, cov = fit.params, fit.cov_params()
        dispersion = fit.pearson_chi2 / (rows - 2)
        cov = cov * max(1.0, dispersion)
        d = (z - b[0]) / b[1]
        gradient = np.array([-1.0, -d]) / b[1]
        t = stats.t.ppf(0.975, rows - 2)
        low, high = fieller(b, cov, z, t)
        out.append(dict(chance=lo, target=target, trials=n, x=x.tolist(), successes=k.tolist(),
                        seed=np.tile(np.arange(seeds), 5).tolist(), intercept=b[0], slope=b[1],
                        slope_error=np.sqrt(cov[1, 1]), dispersion=dispersion,
                        threshold=x.mean() + d, error=float(np.sqrt(gradient @ cov @ gradient)),
                        fieller=[x.mean() + low, x.mean() + high]))
    return out


def isotonic_cases():
    out = []
    for n in (2, 6, 15):
        y, w = rounded(np.sort(rng.uniform(size=n)) + 0.3 * rng.normal(size=n)), rounded(rng.uniform(1, 5, n))
        out.append(dict(y=y.tolist(), w=w.tolist(),
                        fit=optimize.isotonic_regression(y, weights=w).x.tolist()))
    return out


def power_cases():
    """Integral over the law of the standard error, by adaptive quadrature."""
    out = []
    for deviation, margin, se, df, alpha in [(0.0, 0.15, 0.05, 20.0, 0.05), (0.1, 0.15, 0.03, 8.0, 0.05),
                                             (0.3, 0.15, 0.05, 20.0, 0.05), (0.2, 0.15, 0.05, 3.0, 0.025),
                                             (0.02, 0.15, 0.09, 2.0, 0.05), (0.1, 0.02, 0.05, 12.0, 0.05)]:
        t = stats.t.ppf(1 - alpha, df)

        def support(s):
            reach = margin - t * s * se
            return (stats.norm.cdf((reach - deviation) / se) - stats.norm.cdf((-reach - deviation) / se)
                    if reach > 0 else 0.0)

        def refute(s):
            c = optimize.brentq(lambda c: stats.t.sf(c, df) + stats.t.sf(c + 2 * margin / (s * se), df) - alpha,
                                0, 1000)
            reach = margin + c * s * se
            return stats.norm.cdf((deviation - reach) / se) + stats.norm.cdf((-deviation - reach) / se)

        def mean(f):
            density = lambda s: stats.chi.pdf(s * np.sqrt(df), df) * np.sqrt(df)
            cut = margin / (t * se)
            pieces = sorted({1e-6, min(cut, 8.0), 1.0, 8.0})
            return sum(integrate.quad(lambda s: density(s) * f(s), a, b, epsabs=1e-10, limit=200)[0]
                       for a, b in zip(pieces, pieces[1:]))

        out.append(dict(deviation=deviation, margin=margin, se=se, df=df, alpha=alpha,
                        support=mean(support), refutation=mean(refute)))
    return out


def main():
    data = dict(
        versions=dict(numpy=np.__version__, scipy=scipy.__version__, statsmodels=statsmodels.__version__),
        holm=holm_cases(), wilson=wilson_cases(), means=mean_cases(), tost=tost_cases(),
        regressions=regression_cases(), paule_mandel_mean=paule_mandel_mean(),
        probits=probit_cases(), isotonic=isotonic_cases(), powers=power_cases())
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "data", "stats", "golden.json"), "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in data.items()) + "\n}\n")


if __name__ == "__main__":
    main()
