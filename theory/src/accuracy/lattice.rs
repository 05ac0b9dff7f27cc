//! Signal and scores of one-hot tokens as sums of counts. Derivation: `accuracy.md`, section 3,
//! *Counts*.

use crate::gauss;
use crate::labels::LabelMoments;
use crate::moments::Moments;
use crate::quadrature::{HERMITE_3, HERMITE_7};
use crate::setting::{Embedding, Labels, Samples, Setting};

/// A signal that the coincidences of a batch make, and what they do to the scores then.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedState {
    pub(super) weight: f64,
    /// `w . z_trig`, in units of `S0`.
    pub(super) signal: f64,
    /// Classes of two samples.
    pub(super) pairs: f64,
    /// Coincidences of the batch.
    pub(super) events: f64,
}

/// Mean number of a kind of coincidences up to which it is enumerated.
const MOST: f64 = 12.0;

/// Most pairs of samples of one label, on average.
const MOST_PAIRS: f64 = 40.0;

/// Mean number of coincidences of others in a token's sequences up to which they are counted.
const MOST_OTHERS: f64 = 0.25;

/// Probability below which a combination of counts is left out.
const RARE: f64 = 1e-4;

/// Share of the variance of the signal below which three nodes are enough.
const SMALL: f64 = 0.05;

/// A batch of one-hot tokens with few classes of two samples and none of three.
pub(super) struct Lattice {
    v: f64,
    len: f64,
    n: f64,
    /// Classes of two samples: values and probabilities.
    pairs: Vec<(f64, f64)>,
    /// Variance of the signal beside what is counted, squared scores of `unit`.
    rest: f64,
    /// Variance of the scores beside what is counted where outputs are dense, in units of `S0^2`.
    pub(super) dense: Option<f64>,
    /// `V/N^2`: the score, in units of `S0`, of a token that meets itself once.
    pub(super) unit: f64,
}

impl Lattice {
    /// With token scores of variance `spread2` in all; none where classes are not this small.
    pub(super) fn of(s: &Setting, spread2: f64) -> Option<Self> {
        let Samples::Finite(samples) = s.samples else {
            return None;
        };
        if s.input != Embedding::Orthonormal {
            return None;
        }
        let (v, len, n) = (s.vocab as f64, s.len as f64, samples as f64);
        let pairs = match s.labels {
            Labels::Balanced if samples < 2 * s.vocab as u64 => vec![((n - v).max(0.0), 1.0)],
            Labels::Iid if 0.5 * n * (n - 1.0) / v <= MOST_PAIRS && 4.0 * n <= v => {
                // Classes of three hold a share N/V of the pairs; they are left out.
                nodes(0.5 * n * (n - 1.0) / v)
            }
            _ => return None,
        };
        let mut lattice = Lattice {
            v,
            len,
            n,
            pairs,
            rest: 0.0,
            dense: None,
            unit: v / (n * n),
        };
        let zo = Moments::output(s);
        if zo.overlap > 0.0 {
            let l = 1.0 - 1.0 / len;
            let labels = LabelMoments::of(s);
            let others = (zo.t2 - zo.diagonal_squared / v).max(0.0);
            let mean: f64 = lattice.pairs.iter().map(|(k, p)| k * p).sum();
            // Coincidences of samples of other labels, and the squared lengths of the pairs' vectors.
            let half = 1.0 - 2.0 / len;
            let hits = half * half * n * n * n * labels.square / (v * v);
            let repeats = 2.0 * (len - 1.0) * n * n / (len * len * v);
            lattice.rest = others * (len - 1.0) * (hits + repeats)
                + (2.0 * l).powi(2) * zo.norm_variance * mean;
            let (_, own) = lattice.moves();
            let counted = lattice.events(mean) / v * zo.diagonal_squared * own;
            lattice.dense = Some((spread2 - lattice.unit.powi(2) * counted).max(0.0));
        }
        Some(lattice)
    }

    /// Score of a token by a coincidence of its own, in units of `unit`, and sum over tokens of the
    /// squared scores of one coincidence.
    fn moves(&self) -> (f64, f64) {
        let half = 1.0 - 2.0 / self.len;
        (2.0 * half, 4.0 * half * (1.0 - 1.0 / self.len))
    }

    /// Mean numbers of repeats of an informative token in its class, and of others.
    fn rates(&self, pairs: f64) -> (f64, f64) {
        let Lattice { v, len, n, .. } = self;
        let others = len - 1.0;
        let within = 0.5 * n * others * (len - 2.0) / v;
        let between = pairs * others * others / v;
        (n * others / v * (1.0 + 2.0 * pairs / n), within + between)
    }

    /// Mean number of classes in which a token occurs three times: three coincidences in one.
    pub(super) fn triples(&self, pairs: f64) -> f64 {
        let len = self.len;
        let t3 = (len - 1.0) * (len - 2.0) * (len - 3.0) / self.v.powi(3);
        (self.n + 6.0 * pairs) * t3 / 6.0
    }

    /// Mean number of coincidences, pairs of samples among them.
    fn events(&self, pairs: f64) -> f64 {
        let (hits, repeats) = self.rates(pairs);
        hits + repeats + pairs
    }

    /// Mean number of coincidences.
    pub(super) fn mean_events(&self) -> f64 {
        self.pairs.iter().map(|&(k, p)| p * self.events(k)).sum()
    }

    /// Sizes of the classes and their numbers.
    pub(super) fn classes(&self, pairs: f64) -> [(f64, f64); 2] {
        [(1.0, self.n - 2.0 * pairs), (2.0, pairs)]
    }

    /// What a token gains that occurs twice and three times in a class, and what it loses with a
    /// coincidence of others in a sequence, in units of `S0`.
    pub(super) fn steps(&self, events: f64) -> [f64; 3] {
        let Lattice { v, len, n, .. } = self;
        // Each occurrence loses with the mean of its sequence.
        let mean = if self.few(events) {
            0.0
        } else {
            (len - 1.0) / v * (events / self.mean_events() - n / v)
        };
        let twice = self.moves().0 - 2.0 * mean;
        let thrice = 6.0 * (1.0 - 3.0 / len) - 3.0 * mean;
        [twice, thrice, -2.0 / len].map(|x| x * self.unit)
    }

    /// Whether coincidences of others are counted.
    fn few(&self, events: f64) -> bool {
        self.dense.is_none() && events * (self.len - 2.0) / self.v <= MOST_OTHERS
    }

    /// Mean number of coincidences of others in a token's sequences, if they are counted, and spread
    /// of what is not counted, in units of `S0`.
    pub(super) fn background(&self, events: f64) -> (f64, f64) {
        let Lattice { v, len, n, .. } = self;
        if let Some(variance) = self.dense {
            return (0.0, variance.sqrt());
        }
        let others = events * (len - 2.0) / v;
        // The centring over labels.
        let mut variance = 2.0 * (n * len / (v * v)).powi(2);
        if self.few(events) {
            return (others, self.unit * variance.sqrt());
        }
        let share = events / self.mean_events() - n / v;
        let t = (len - 1.0) / v;
        variance += others * 4.0 / (len * len) + n * t.powi(3) * share * share;
        (0.0, self.unit * variance.sqrt())
    }

    pub(super) fn states(&self) -> Vec<CountedState> {
        let Lattice { v, len, n, .. } = self;
        let (l, half) = (1.0 - 1.0 / len, 1.0 - 2.0 / len);
        let per_class = n / v;
        let mut states = Vec::new();
        for &(pairs, p) in &self.pairs {
            let (hits, repeats) = self.rates(pairs);
            let ordered = 2.0 * pairs;
            // Mean and variance of what the centring over labels leaves.
            let centre = l / v * (n * n / v - ordered);
            let read = half * half * n * (len - 1.0) * ((n + ordered) / v - per_class * per_class);
            let met = 2.0 * per_class * per_class * v * l * l;
            let mut rest = self.rest + (read + met) / (v * v);
            let repeats_variance = repeats * 4.0 / (len * len);
            let leading = half * half * hits + 4.0 * l * l * pairs;
            let enumerate = repeats <= MOST && repeats_variance > SMALL * leading;
            let number = if enumerate {
                nodes(repeats)
            } else {
                rest += repeats_variance;
                vec![(repeats, 1.0)]
            };
            // What is small beside hits that are not enumerated broadens them.
            let leading = half * half * hits;
            let broad = hits > MOST && rest <= SMALL * leading;
            let factor = if broad {
                (1.0 + rest / leading).sqrt()
            } else {
                1.0
            };
            for &(h, wh) in &nodes(hits) {
                let hit = half * (hits + factor * (h - hits));
                for &(r, wr) in &number {
                    if p * wh * wr < RARE {
                        continue;
                    }
                    let counted = 2.0 * l * pairs + hit - 2.0 / len * r;
                    // Beside counts what is not counted decides ties only.
                    let alone = broad || (enumerate && self.rest == 0.0 && counted.abs() > 1e-9);
                    let rule: &[(f64, f64)] = if alone {
                        &[(0.0, 1.0)]
                    } else if rest <= SMALL * leading || enumerate {
                        &HERMITE_3
                    } else {
                        &HERMITE_7
                    };
                    for &(x, wx) in rule {
                        states.push(CountedState {
                            weight: p * wh * wr * wx,
                            signal: self.unit * (counted + centre + x * rest.sqrt()),
                            pairs,
                            events: h + r + pairs,
                        });
                    }
                }
            }
        }
        let all: f64 = states.iter().map(|s| s.weight).sum();
        for s in &mut states {
            s.weight /= all;
        }
        states
    }
}

/// Values and probabilities of a Poisson number: each where few are likely, otherwise those of a
/// gamma law.
fn nodes(mean: f64) -> Vec<(f64, f64)> {
    if mean <= MOST {
        let law = crate::recall::poisson(mean).into_iter().enumerate();
        return law
            .map(|(k, p)| (k as f64, p))
            .filter(|n| n.1 > RARE)
            .collect();
    }
    // Attention is a step of the signal: equal steps rather than a Gaussian rule.
    let scores = || (-7..=7).map(|i| 0.5 * f64::from(i));
    let all: f64 = scores().map(gauss::pdf).sum();
    let c = 1.0 / (9.0 * mean);
    scores()
        .map(|x| {
            let cube = (1.0 - c + x * c.sqrt()).max(0.0).powi(3);
            (mean * cube, gauss::pdf(x) / all)
        })
        .collect()
}
