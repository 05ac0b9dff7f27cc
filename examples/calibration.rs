//! Coverage and error rates of the statistics on synthetic data with known truth, as a table in
//! Markdown: what `docs/calibration.md` holds. Fixed seeds; prints repetitions and the
//! Monte-Carlo error of each rate. `cargo run --release --example calibration`.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Exp1, StandardNormal};
use recall_capacity::stats::StatsError;
use recall_capacity::stats::cells::{CellError, Scatter, change_along, mean_error};
use recall_capacity::stats::crossing::{CrossingOptions, RatioRow, ratio_crossing};
use recall_capacity::stats::curvature::curvature_test;
use recall_capacity::stats::equivalence::{bound_test, compare};
use recall_capacity::stats::interval::{Estimate, log_mean_of_seeds, mean_of_seeds};
use recall_capacity::stats::link::{Link, Shape};
use recall_capacity::stats::multiplicity::holm;
use recall_capacity::stats::power::test_power;
use recall_capacity::stats::probit::{ProbitOptions, Trial, probit_threshold};
use recall_capacity::stats::regression::{Observation, RegressionOptions, fit_loglog};
use recall_capacity::stats::threshold::{Curve as Fitted, SeedDesign};
use recall_capacity::stats::verdict::{
    AccuracyEvidence, BoundEvidence, Claim, Evidence, ExponentEvidence, FormulaEvidence,
    LawEvidence, Margin, PointCount, Policy, Verdict, decide,
};

/// Hits and repetitions.
type Rate = Result<(usize, usize), StatsError>;

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

fn row(what: &str, nominal: &str, rate: Rate) -> Result<(), StatsError> {
    let (hits, of) = rate?;
    let rate = hits as f64 / of as f64;
    let error = (rate * (1.0 - rate) / of as f64).sqrt();
    println!("| {what} | {nominal} | {rate:.3} ± {error:.3} | {of} |");
    Ok(())
}

fn holds(e: &Estimate, truth: f64) -> bool {
    (e.lower..=e.upper).contains(&truth)
}

/// Accuracy curves of the log samples, one half at `x = 7`.
#[derive(Clone, Copy)]
enum Curve {
    /// Steep above, with a long foot.
    LongFoot,
    /// Steep below, with a long shoulder.
    LongShoulder,
    /// The same forwards and backwards.
    Symmetric,
}

impl Curve {
    const ALL: [(Self, &'static str); 3] = [
        (Self::LongFoot, "long foot"),
        (Self::LongShoulder, "long shoulder"),
        (Self::Symmetric, "symmetric"),
    ];

    fn at(self, x: f64) -> f64 {
        let rise = |t: f64| 1.0 - (-std::f64::consts::LN_2 * (1.5 * t).exp()).exp();
        match self {
            Self::LongFoot => rise(x - 7.0),
            Self::LongShoulder => 1.0 - rise(7.0 - x),
            Self::Symmetric => 1.0 / (1.0 + (-2.4 * (x - 7.0)).exp()),
        }
    }

    fn mirrored(self) -> Self {
        match self {
            Self::LongFoot => Self::LongShoulder,
            Self::LongShoulder => Self::LongFoot,
            Self::Symmetric => Self::Symmetric,
        }
    }

    /// The curve as a link, stated in the wrong place and twice as steep: neither may matter.
    fn link(self) -> Link {
        let points: Vec<(f64, f64)> = (-9..=9)
            .map(|i| f64::from(i) * 0.25)
            .map(|u| (5.0 + 0.5 * u, self.at(7.0 + u)))
            .collect();
        Shape::new(&points, 0.5).map_or(Link::Probit, Link::Shape)
    }
}

/// A psychometric design: five levels to `± half` about a centre that is off by up to .15.
#[derive(Clone, Copy)]
struct Psychometric {
    curve: Curve,
    half: f64,
    seeds: u64,
    tokens: u64,
    seed_sd: f64,
    shared: bool,
}

/// Trials of one design, and whether its interval holds the truth and its shape is rejected.
struct Reading {
    holds: bool,
    rejected: bool,
}

fn readings(
    d: Psychometric,
    link: &Link,
    link_error: f64,
    repeats: usize,
) -> Result<Vec<Reading>, StatsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(101);
    let options = ProbitOptions {
        link: link.clone(),
        link_error,
        bootstrap_samples: 40,
        seed_design: if d.shared {
            SeedDesign::SharedAcrossLevels
        } else {
            SeedDesign::IndependentAcrossLevels
        },
        ..ProbitOptions::default()
    };
    let mut readings = Vec::new();
    for _ in 0..repeats {
        let centre = 7.0 + 0.3 * (rng.random::<f64>() - 0.5);
        let own: Vec<f64> = (0..d.seeds).map(|_| normal(&mut rng)).collect();
        let mut trials = Vec::new();
        for step in [-1.0, -0.5, 0.0, 0.5, 1.0] {
            let x = centre + step * d.half;
            for seed in 0..d.seeds {
                let z = if d.shared {
                    own[seed as usize]
                } else {
                    normal(&mut rng)
                };
                let Ok(law) = Binomial::new(d.tokens, d.curve.at(x + d.seed_sd * z)) else {
                    continue;
                };
                trials.push(Trial {
                    seed,
                    x,
                    successes: law.sample(&mut rng) as f64,
                    trials: d.tokens as f64,
                });
            }
        }
        if let Some(e) = probit_threshold(&trials, &options)?.estimate() {
            readings.push(Reading {
                holds: holds(&e.log_n, 7.0),
                rejected: matches!(e.curve, Fitted::Monotone { .. }),
            });
        }
    }
    Ok(readings)
}

fn threshold(d: Psychometric, link: &Link, link_error: f64, repeats: usize) -> Rate {
    let readings = readings(d, link, link_error, repeats)?;
    let hits = readings.iter().filter(|r| r.holds).count();
    Ok((hits, readings.len()))
}

/// Shapes that the lack-of-fit test rejects.
fn rejected(d: Psychometric, link: &Link, repeats: usize) -> Rate {
    let readings = readings(d, link, ProbitOptions::default().link_error, repeats)?;
    let hits = readings.iter().filter(|r| r.rejected).count();
    Ok((hits, readings.len()))
}

/// Size of the lack-of-fit test of a stated shape, and its power against the mirror image.
fn lack_of_fit(plain: Psychometric) -> Result<(), StatsError> {
    for half in [0.3, 0.9] {
        for seed_sd in [0.0, 0.1] {
            let design = Psychometric {
                curve: Curve::LongFoot,
                half,
                seed_sd,
                ..plain
            };
            let place = format!("levels to ±{half}, seed scatter {seed_sd}");
            row(
                &format!("its own shape rejected: {place}"),
                "at most 0.05",
                rejected(design, &Curve::LongFoot.link(), 1500),
            )?;
            row(
                &format!("the mirrored shape rejected (power): {place}"),
                "none",
                rejected(design, &Curve::LongShoulder.link(), 1500),
            )?;
        }
    }
    Ok(())
}

fn thresholds() -> Result<(), StatsError> {
    let allowance = ProbitOptions::default().link_error;
    let plain = Psychometric {
        curve: Curve::Symmetric,
        half: 0.3,
        seeds: 6,
        tokens: 256,
        seed_sd: 0.0,
        shared: false,
    };
    for (curve, name) in Curve::ALL {
        for half in [0.3, 0.9] {
            for seed_sd in [0.0, 0.1] {
                let design = Psychometric {
                    curve,
                    half,
                    seed_sd,
                    ..plain
                };
                for (link, error, words) in [
                    (Link::Probit, 0.0, "probit, no allowance"),
                    (Link::Probit, allowance, "probit, allowance .03"),
                    (curve.link(), allowance, "its own shape"),
                    (curve.mirrored().link(), allowance, "the mirrored shape"),
                ] {
                    let what = format!(
                        "threshold by {words}: {name}, levels to ±{half}, seed scatter {seed_sd}"
                    );
                    row(&what, "0.95", threshold(design, &link, error, 1500))?;
                }
            }
        }
    }
    for (curve, name) in Curve::ALL {
        let design = Psychometric {
            curve,
            half: 0.6,
            seed_sd: 0.15,
            shared: true,
            ..plain
        };
        let what = format!("threshold by its own shape: {name}, seeds shared by the levels");
        row(
            &what,
            "0.95",
            threshold(design, &curve.link(), allowance, 1500),
        )?;
    }
    let few = Psychometric {
        curve: Curve::LongFoot,
        seeds: 3,
        tokens: 24,
        ..plain
    };
    for (link, words) in [
        (Link::Probit, "probit, allowance .03"),
        (few.curve.link(), "its own shape"),
    ] {
        let what = format!("threshold by {words}: long foot, 3 seeds of 24 tokens (Fieller)");
        row(&what, "0.95", threshold(few, &link, allowance, 1500))?;
    }
    lack_of_fit(plain)
}

/// Noise-ratio crossing along `r = exp(-x/2 + ...)`, lognormal seeds.
fn crossing(seeds: u64, shared: bool, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(106);
    let sd = 0.2;
    let options = CrossingOptions {
        critical_ratio: 0.7,
        seed_design: if shared {
            SeedDesign::SharedAcrossLevels
        } else {
            SeedDesign::IndependentAcrossLevels
        },
        ..CrossingOptions::default()
    };
    // The root mean square of exp(sd Z) is exp(sd^2).
    let truth = 6.0 - (0.7f64.ln() - sd * sd) / 0.5;
    let (mut hits, mut found) = (0, 0);
    for _ in 0..repeats {
        let own: Vec<f64> = (0..seeds).map(|_| normal(&mut rng)).collect();
        let mut rows = Vec::new();
        for offset in [-0.45, -0.15, 0.15, 0.45] {
            let x = truth + offset;
            for seed in 0..seeds {
                let z = if shared {
                    own[seed as usize]
                } else {
                    normal(&mut rng)
                };
                rows.push(RatioRow {
                    seed,
                    x,
                    ratio: (-0.5 * (x - 6.0) + sd * z).exp(),
                });
            }
        }
        if let Some(e) = ratio_crossing(&rows, &options)?.estimate() {
            found += 1;
            hits += usize::from(holds(&e.log_n, truth));
        }
    }
    Ok((hits, found))
}

/// What a slope is estimated from.
#[derive(Clone, Copy)]
enum Points {
    /// Standard errors from .02 to .2, scatter .05.
    Uneven,
    /// The same, responses above a limit left out.
    Censored,
    /// Scatter of the thresholds from .02 to .12 along the regressor.
    Heteroscedastic,
    /// Responses above a limit left out, where a regressor that the fit lacks adds to them.
    CensoredByOmitted,
    /// Seven points, three regressors: a region of a map.
    Region,
}

/// Rows of a regression with slope 1.5 on the first regressor.
fn observations(points: Points, rng: &mut ChaCha8Rng) -> Vec<Observation> {
    let mut rows = Vec::new();
    if matches!(points, Points::Region) {
        for (a, b, c) in [
            (0.0, 0.0, 0.0),
            (1.0, 0.0, 0.0),
            (0.0, 1.0, 0.0),
            (0.0, 0.0, 1.0),
            (1.0, 1.0, 0.0),
            (1.0, 0.0, 1.0),
            (0.0, 1.0, 1.0),
        ] {
            rows.push(Observation {
                regressors: vec![a, b, c],
                response: 1.5 * a - b + 0.5 * c + 0.07 * normal(rng),
                standard_error: Some(0.05),
            });
        }
        return rows;
    }
    for i in 0..6 {
        for j in 0..4 {
            for _ in 0..2 {
                let (a, b) = (0.5 * f64::from(i), 0.7 * f64::from(j));
                let share = f64::from(i) / 5.0;
                let (error, tau) = match points {
                    Points::Heteroscedastic => (0.05, 0.02 + 0.1 * share),
                    _ => (0.02 + 0.18 * share, 0.05),
                };
                let omitted = match points {
                    Points::CensoredByOmitted => 0.3 * f64::from(rng.random::<bool>()),
                    _ => 0.0,
                };
                let response = 1.5 * a - b + omitted + error * normal(rng) + tau * normal(rng);
                // What lies beyond the range searched carries no estimate.
                let limit = match points {
                    Points::Censored => 3.2,
                    Points::CensoredByOmitted => 3.2,
                    _ => f64::INFINITY,
                };
                if response <= limit {
                    rows.push(Observation {
                        regressors: vec![a, b],
                        response,
                        standard_error: Some(error),
                    });
                }
            }
        }
    }
    rows
}

fn slope(points: Points, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(102);
    let mut hits = 0;
    for _ in 0..repeats {
        let rows = observations(points, &mut rng);
        let names = &["a", "b", "c"][..rows[0].regressors.len()];
        let fit = fit_loglog(names, &rows, &RegressionOptions::default())?;
        hits += usize::from(holds(&fit.coefficients[1].estimate, 1.5));
    }
    Ok((hits, repeats))
}

/// One more response at the centre of the design, with the errors of the middle of it.
fn prediction(points: Points, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(114);
    let mut hits = 0;
    for _ in 0..repeats {
        let rows = observations(points, &mut rng);
        let names = &["a", "b", "c"][..rows[0].regressors.len()];
        let fit = fit_loglog(names, &rows, &RegressionOptions::default())?;
        let (error, tau) = match points {
            Points::Region => (0.07, 0.0),
            Points::Heteroscedastic => (0.05, 0.07),
            _ => (0.11, 0.05),
        };
        let law: f64 = fit
            .centres
            .iter()
            .zip([1.5, -1.0, 0.5])
            .map(|(x, b)| b * x)
            .sum();
        let new = law + error * normal(&mut rng) + tau * normal(&mut rng);
        hits += usize::from(holds(&fit.prediction(0.95)?, new));
    }
    Ok((hits, repeats))
}

/// Laws that are called bent, where the slope on the first regressor changes by `change` over its
/// range.
fn bent(change: f64, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(107);
    let mut hits = 0;
    for _ in 0..repeats {
        let mut rows = observations(Points::Uneven, &mut rng);
        for r in &mut rows {
            // The first regressor runs to 2.5; half the second derivative is change / 5.
            r.response += change / 5.0 * r.regressors[0].powi(2);
        }
        let test = curvature_test(&["a", "b"], &rows, &RegressionOptions::default())?;
        hits += usize::from(test.is_some_and(|t| t.p_value() <= 0.05));
    }
    Ok((hits, repeats))
}

fn mean(n: usize, draw: impl Fn(&mut ChaCha8Rng) -> f64) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(103);
    let (mut hits, repeats) = (0, 20_000);
    for _ in 0..repeats {
        let values: Vec<f64> = (0..n).map(|_| draw(&mut rng)).collect();
        hits += usize::from(holds(&mean_of_seeds(&values, 0.95)?, 0.0));
    }
    Ok((hits, repeats))
}

/// Cells of an accuracy experiment whose true error of the formula is `error`; accuracies from .1
/// to .9, a scatter over trials, and 200 test sequences to a trial.
fn cells(
    n: usize,
    trials: usize,
    error: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<CellError>, StatsError> {
    let mut cells = Vec::with_capacity(n);
    for i in 0..n {
        let p = 0.1 + 0.8 * i as f64 / (n - 1) as f64;
        let mut rates = Vec::with_capacity(trials);
        for _ in 0..trials {
            let own = (p + 0.03 * normal(rng)).clamp(0.0, 1.0);
            let hits = Binomial::new(200, own).map_or(0, |law| law.sample(rng));
            rates.push(hits as f64 / 200.0);
        }
        let e = mean_of_seeds(&rates, 0.95)?;
        cells.push(CellError {
            error: e.value - p + error,
            standard_error: e.standard_error,
            df: e.df,
        });
    }
    Ok(cells)
}

fn mean_signed_error(n: usize, trials: usize, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(108);
    let mut hits = 0;
    for _ in 0..repeats {
        hits += usize::from(holds(
            &mean_error(&cells(n, trials, 0.0, &mut rng)?, 0.95)?,
            0.0,
        ));
    }
    Ok((hits, repeats))
}

/// Intervals of the change of the error over the design, none there.
fn change(n: usize, trials: usize, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(112);
    let sizes: Vec<f64> = (0..n).map(|i| 0.7 * i as f64).collect();
    let mut hits = 0;
    for _ in 0..repeats {
        let cells = cells(n, trials, 0.0, &mut rng)?;
        let change = change_along(&cells, &sizes, 0.95)?;
        hits += usize::from(change.is_some_and(|c| holds(&c, 0.0)));
    }
    Ok((hits, repeats))
}

/// Refutation and support, at level .05, of a scatter over cells that is `of_margin` times the
/// margin of .04.
fn scatter(of_margin: f64, repeats: usize) -> Result<[(usize, usize); 2], StatsError> {
    const MARGIN: f64 = 0.04;
    let mut rng = ChaCha8Rng::seed_from_u64(113);
    let mut hits = [0; 2];
    for _ in 0..repeats {
        let mut cells = cells(12, 8, 0.0, &mut rng)?;
        for (i, c) in cells.iter_mut().enumerate() {
            c.error += of_margin * MARGIN * if i / 2 % 2 == 0 { 1.0 } else { -1.0 };
        }
        let test = Scatter::of(&cells)?.test(MARGIN)?;
        hits[0] += usize::from(test.p_outside <= 0.05);
        hits[1] += usize::from(test.p_equivalent <= 0.05);
    }
    Ok(hits.map(|h| (h, repeats)))
}

/// Geometric mean of measured over predicted, points of unequal scatter.
fn constant(n: usize, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(109);
    let mut hits = 0;
    for _ in 0..repeats {
        let values: Vec<f64> = (0..n)
            .map(|i| (0.02 + 0.1 * i as f64 / n as f64) * normal(&mut rng))
            .collect();
        hits += usize::from(holds(&mean_of_seeds(&values, 0.95)?, 0.0));
    }
    Ok((hits, repeats))
}

/// Logarithm of a mean square: sizes of scores. `draw` has a mean of one.
fn log_mean_square(n: usize, draw: impl Fn(&mut ChaCha8Rng) -> f64, repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(110);
    let mut hits = 0;
    for _ in 0..repeats {
        let squares: Vec<f64> = (0..n).map(|_| draw(&mut rng)).collect();
        let e = log_mean_of_seeds(&squares, 0.95)?;
        hits += usize::from(e.is_some_and(|e| holds(&e, 0.0)));
    }
    Ok((hits, repeats))
}

/// Support and refutation of a mean of 12 at a deviation, at level .05.
fn equivalence(deviation: f64, repeats: usize) -> Result<[(usize, usize); 2], StatsError> {
    let mut rng = ChaCha8Rng::seed_from_u64(111);
    let mut hits = [0; 2];
    for _ in 0..repeats {
        let values: Vec<f64> = (0..12)
            .map(|_| deviation + 0.1 * normal(&mut rng))
            .collect();
        let test = compare(&mean_of_seeds(&values, 0.95)?, 0.0, 0.1)?;
        hits[0] += usize::from(test.p_equivalent <= 0.05);
        hits[1] += usize::from(test.p_outside <= 0.05);
    }
    Ok(hits.map(|h| (h, repeats)))
}

/// One part of a report, and how its claims are related.
struct Report {
    rng: ChaCha8Rng,
    /// Share of the variance that claims of one group of four have in common.
    common: f64,
}

impl Report {
    /// `n` normal values about `mean`, those of `shared` mixed in.
    fn estimate(
        &mut self,
        n: usize,
        mean: f64,
        sd: f64,
        shared: &[f64],
    ) -> Result<Estimate, StatsError> {
        let values: Vec<f64> = (0..n)
            .map(|i| {
                let own = (1.0 - self.common).sqrt() * normal(&mut self.rng);
                mean + sd * (own + self.common.sqrt() * shared[i % shared.len()])
            })
            .collect();
        mean_of_seeds(&values, 0.95)
    }

    /// 106 claims: 40 laws of three exponents, 34 constants and 20 accuracies that all deviate by
    /// exactly their margin, and 12 bounds that 40 readings each reach exactly.
    fn claims(&mut self) -> Result<Vec<Claim>, StatsError> {
        let points = |total| PointCount { total, censored: 0 };
        let mut claims = Vec::new();
        let mut shared = Vec::new();
        for i in 0..106 {
            if i % 4 == 0 {
                shared = (0..12).map(|_| normal(&mut self.rng)).collect::<Vec<_>>();
            }
            let evidence = match i {
                0..40 => {
                    let mut exponents = Vec::new();
                    for name in ["d", "L", "V"] {
                        exponents.push(ExponentEvidence {
                            name: name.into(),
                            estimate: self.estimate(12, 0.15, 0.1, &shared)?,
                            target: 0.0,
                            margin: Margin::fixed(0.15),
                            curvature: None,
                        });
                    }
                    Evidence::Law(LawEvidence {
                        exponents,
                        points: points(12),
                    })
                }
                40..74 => Evidence::Formula(FormulaEvidence {
                    mean: self.estimate(12, 0.1, 0.05, &shared)?,
                    sd: 0.05,
                    margin: 0.1,
                    max_sd: 1.0,
                    trends: Vec::new(),
                    points: points(12),
                }),
                74..94 => {
                    let cells = cells(12, 6, 0.03, &mut self.rng)?;
                    let size: Vec<f64> = (0..12).map(f64::from).collect();
                    let sizes = [("N", size)];
                    Evidence::Accuracy(AccuracyEvidence::of(&cells, &sizes, 0.03, 0.05, 0.95)?)
                }
                _ => {
                    let mut tests = Vec::new();
                    for _ in 0..40 {
                        let e = self.estimate(8, 0.0, 0.02, &shared)?;
                        tests.push(bound_test(e.value, e.standard_error, e.df, 0.0, 0.05)?);
                    }
                    Evidence::Bound(BoundEvidence {
                        tests,
                        points: points(40),
                    })
                }
            };
            claims.push(Claim {
                id: i.to_string(),
                evidence,
            });
        }
        Ok(claims)
    }
}

/// The two p-values of a claim as `decide` combines them. The powers, which `decide` states with
/// each verdict, take a hundred times as long and decide nothing here.
fn p_values(evidence: &Evidence) -> Result<(f64, f64), StatsError> {
    let mut parts = Vec::new();
    let mut part = |t: recall_capacity::stats::equivalence::EquivalenceTest| {
        parts.push((t.p_equivalent, t.p_outside));
    };
    match evidence {
        Evidence::Law(law) => {
            for e in &law.exponents {
                part(compare(&e.estimate, e.target, e.margin.value)?);
            }
        }
        Evidence::Formula(f) => part(compare(&f.mean, 0.0, f.margin)?),
        Evidence::Accuracy(a) => {
            part(compare(&a.mean, 0.0, a.margin)?);
            for t in &a.trends {
                part(compare(&t.change, 0.0, a.margin)?);
            }
            part(a.scatter.test(a.max_sd)?);
        }
        Evidence::Bound(b) => parts.extend(b.tests.iter().map(|t| (t.p_kept, t.p_violated))),
        _ => {}
    }
    let support = parts.iter().fold(0.0f64, |a, p| a.max(p.0));
    let refute = parts.iter().fold(1.0f64, |a, p| a.min(p.1));
    Ok((support, (refute * parts.len() as f64).min(1.0)))
}

/// Reports with a false refutation, with a false support, and with a refuted bound. The first
/// report is judged by `decide` as well, which must agree.
fn family(common: f64, repeats: usize) -> Result<[(usize, usize); 3], StatsError> {
    let mut report = Report {
        rng: ChaCha8Rng::seed_from_u64(104),
        common,
    };
    let policy = Policy::default();
    let mut wrong = [0; 3];
    for i in 0..repeats {
        let claims = report.claims()?;
        let (support, refute): (Vec<f64>, Vec<f64>) = claims
            .iter()
            .map(|c| p_values(&c.evidence))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .unzip();
        let refuted: Vec<bool> = holm(&refute)?.iter().map(|p| *p <= policy.alpha).collect();
        let supported: Vec<bool> = holm(&support)?.iter().map(|p| *p <= policy.alpha).collect();
        if i == 0 {
            for (k, v) in decide(&claims, &policy)?.iter().enumerate() {
                assert_eq!(v.verdict == Verdict::Refuted, refuted[k], "claim {k}");
                let open = supported[k] && !refuted[k];
                assert_eq!(v.verdict == Verdict::Supported, open, "claim {k}");
            }
        }
        wrong[0] += usize::from(refuted.iter().any(|r| *r));
        // A bound that is reached is kept: its support is no error.
        wrong[1] += usize::from(supported[..94].iter().any(|s| *s));
        wrong[2] += usize::from(refuted[94..].iter().any(|r| *r));
    }
    Ok(wrong.map(|w| (w, repeats)))
}

/// A bound alone that 40 readings reach exactly.
fn bound(repeats: usize) -> Rate {
    let mut rng = ChaCha8Rng::seed_from_u64(105);
    let mut wrong = 0;
    for _ in 0..repeats {
        let mut smallest = 1.0f64;
        for _ in 0..40 {
            let values: Vec<f64> = (0..8).map(|_| 0.02 * normal(&mut rng)).collect();
            let e = mean_of_seeds(&values, 0.95)?;
            let test = bound_test(e.value, e.standard_error, e.df, 0.0, 0.05)?;
            smallest = smallest.min(test.p_violated);
        }
        wrong += usize::from(40.0 * smallest <= 0.05);
    }
    Ok((wrong, repeats))
}

fn main() -> Result<(), StatsError> {
    println!("| what | nominal | measured | repetitions |\n|---|---:|---:|---:|");
    thresholds()?;
    for (seeds, shared) in [(3, false), (4, false), (8, false), (8, true)] {
        let what = format!(
            "critical value by noise ratio, {seeds} seeds{}",
            if shared { " shared by the levels" } else { "" }
        );
        row(&what, "0.95", crossing(seeds, shared, 1500))?;
    }
    for (points, words) in [
        (Points::Uneven, "standard errors from .02 to .2"),
        (Points::Censored, "the same, largest censored"),
        (Points::Heteroscedastic, "scatter from .02 to .12"),
        (
            Points::CensoredByOmitted,
            "largest censored by a regressor left out",
        ),
    ] {
        row(&format!("slope, {words}"), "0.95", slope(points, 8000))?;
    }
    row(
        "slope of a region, seven points, three regressors",
        "0.95",
        slope(Points::Region, 8000),
    )?;
    for (points, words) in [
        (Points::Uneven, "standard errors from .02 to .2"),
        (Points::Censored, "the same, largest censored"),
        (Points::Heteroscedastic, "scatter from .02 to .12"),
        (Points::Region, "seven points, three regressors"),
    ] {
        let what = format!("prediction at the centre, {words}");
        row(&what, "0.95", prediction(points, 8000))?;
    }
    row(
        "a straight law called bent",
        "at most 0.05",
        bent(0.0, 8000),
    )?;
    row(
        "a law whose slope changes by .3 called bent (power)",
        "none",
        bent(0.3, 8000),
    )?;
    for n in [12, 36] {
        let what = format!("geometric mean of measured/formula, {n} points of scatter .02 to .12");
        row(&what, "0.95", constant(n, 10_000))?;
    }
    for (n, trials) in [(6, 3), (12, 4), (24, 8)] {
        let what = format!("mean signed error of an accuracy, {n} cells of {trials} trials");
        row(&what, "0.95", mean_signed_error(n, trials, 4000))?;
        let what = format!("change of an accuracy's error, {n} cells of {trials} trials");
        row(&what, "0.95", change(n, trials, 4000))?;
    }
    for (of_margin, refuted, supported) in [
        (1.0, "at most 0.05", "at most 0.05"),
        (0.0, "none", "none"),
        (1.2, "none", "none"),
    ] {
        let [refute, support] = scatter(of_margin, 4000)?;
        let what = format!("scatter of 12 cells of 8 trials, {of_margin} times its margin");
        row(&format!("{what}: refuted"), refuted, Ok(refute))?;
        row(&format!("{what}: supported"), supported, Ok(support))?;
    }
    // E exp(s Z) = exp(s^2/2).
    let lognormal = |s: f64| move |rng: &mut ChaCha8Rng| (s * normal(rng) - 0.5 * s * s).exp();
    for n in [4, 8, 16, 24] {
        let what = format!("logarithm of a score's size, {n} trials, skewed squares");
        row(&what, "0.95", log_mean_square(n, lognormal(0.6), 10_000))?;
        let what = format!("logarithm of a score's size, {n} trials, mildly skewed squares");
        row(&what, "0.95", log_mean_square(n, lognormal(0.2), 10_000))?;
    }
    for n in [3, 4, 8] {
        row(
            &format!("mean of {n} normal trials"),
            "0.95",
            mean(n, normal),
        )?;
        let skewed = |rng: &mut ChaCha8Rng| Distribution::<f64>::sample(&Exp1, rng) - 1.0;
        row(
            &format!("mean of {n} exponential trials"),
            "0.95",
            mean(n, skewed),
        )?;
    }
    let [support, refute] = equivalence(0.1, 20_000)?;
    row("support at the margin (size)", "0.05", Ok(support))?;
    row("refutation at the margin (size)", "0.05", Ok(refute))?;
    let stated = test_power(0.1, 0.1 / 12f64.sqrt(), Some(11.0), 0.05, 1, 0.8)?;
    let [support, _] = equivalence(0.0, 20_000)?;
    let nominal = format!("{:.3}", stated.support_at_zero);
    row(
        "support at no deviation (stated power)",
        &nominal,
        Ok(support),
    )?;
    let [_, refute] = equivalence(stated.refutable_deviation, 20_000)?;
    row(
        "refutation at the stated detectable deviation",
        "0.800",
        Ok(refute),
    )?;
    row(
        "a bound that 40 readings reach, refuted",
        "at most 0.05",
        bound(20_000),
    )?;
    for (common, words) in [
        (0.0, "independent"),
        (0.5, "half the noise shared by four claims"),
    ] {
        let [refuted, supported, bounds] = family(common, 4000)?;
        for (what, rate) in [
            ("any false refutation", refuted),
            ("any false support", supported),
            ("any bound refuted", bounds),
        ] {
            let what = format!("report of 106 claims at their margins, {words}: {what}");
            row(&what, "at most 0.05", Ok(rate))?;
        }
    }
    Ok(())
}
