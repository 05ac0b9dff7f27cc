//! The query of step 2 read beside the first gradient, against the bound on every reader.

use recall_theory::{Setting, accuracy, query_bound};

use super::Records;
use super::cells::{Extra, jobs_with, samples_text};
use super::evidence::{MeasuredLaw, Question};
use super::findings::{CellRow, Findings, NamedFigure, Table};
use super::law::{self, LawPoint, LawWords};
use super::predictor::{Predictor, Theory};
use crate::decode::query::{QueryOutcome, Reading};
use crate::figure::{Axis, Dash, Line, PanelGrid, Point, Points, Style, XyFigure};
use crate::job::{Job, Record};
use crate::spec::{Design, Experiment, ThresholdTest};
use crate::stats::StatsError;
use crate::stats::coverage::{Interval, note};
use crate::stats::equivalence::{BoundTest, bound_test};
use crate::stats::interval::{Estimate, mean_of_seeds};
use crate::stats::verdict::{BoundEvidence, Claim, Evidence, PointCount};

const EXTRA: Extra = Extra {
    decoders: crate::decode::DecoderSet::NONE,
    oracle_noise: 0.0,
    read_query: true,
};

/// All jobs.
pub(super) fn jobs(design: &Design) -> Vec<Job> {
    jobs_with(design, EXTRA)
}

fn outcome(record: &Record) -> Option<&QueryOutcome> {
    record.outcome.query.as_ref()
}

/// A setting with the means over its trials.
struct Cell {
    block: usize,
    setting: Setting,
    /// `cos^2` between the query and the trigger, by reading.
    cosine: Vec<Estimate>,
    /// Attention accuracy on fresh sequences, by reading.
    attention: Vec<Estimate>,
    bound: Estimate,
}

/// `log(noise / signal)`, root mean square of the noise over mean signal, by linear error
/// propagation. A single trial may have a signal below zero; `None` where the mean has.
fn log_ratio(square: &Estimate, signal: &Estimate) -> Result<Option<Estimate>, StatsError> {
    if signal.value <= 0.0 {
        return Ok(None);
    }
    let error =
        (0.5 * square.standard_error / square.value).hypot(signal.standard_error / signal.value);
    Estimate::new(
        0.5 * square.value.ln() - signal.value.ln(),
        error,
        square.df,
        square.confidence,
    )
    .map(Some)
}

fn measure(design: &Design, records: &dyn Records) -> Result<Vec<Cell>, StatsError> {
    let mut cells = Vec::new();
    for (block, b) in design.blocks.iter().enumerate() {
        for setting in b.settings().unwrap_or_default() {
            let mean = |f: &dyn Fn(&QueryOutcome) -> f64| {
                EXTRA.mean(design, &setting, records, |r| outcome(r).map(f))
            };
            let each =
                |f: &dyn Fn(&QueryOutcome, usize) -> f64| -> Result<Vec<Estimate>, StatsError> {
                    (0..Reading::ALL.len())
                        .map(|i| mean(&|q| f(q, i)))
                        .collect()
                };
            cells.push(Cell {
                block,
                setting,
                cosine: each(&|q, i| q.readings[i].alignment / q.trigger_squared)?,
                attention: each(&|q, i| q.readings[i].attention.rate())?,
                bound: mean(&|q| q.bound)?,
            });
        }
    }
    Ok(cells)
}

/// One cell as the claim on the bound sees it.
struct Reached {
    setting: Setting,
    /// By reading, trial by trial: alignment, the bound of the trial's channel, and the squared
    /// length of the trigger.
    trials: Vec<Vec<[f64; 3]>>,
}

/// The readings as measured.
pub(super) struct Measured {
    margin: f64,
    cells: Vec<Reached>,
}

/// What the claim on the bound rests on.
pub(super) fn measured(
    design: &Design,
    margin: f64,
    records: &dyn Records,
) -> Result<Measured, StatsError> {
    let trials = |setting: &Setting, reading: usize| {
        (0..design.seeds)
            .filter_map(|seed| {
                let q = outcome(records.measured(&EXTRA.job(design, setting, seed))?)?;
                Some([q.readings[reading].alignment, q.bound, q.trigger_squared])
            })
            .collect()
    };
    let cells = design
        .settings()
        .map(|setting| Reached {
            setting,
            trials: (0..Reading::ALL.len())
                .map(|i| trials(&setting, i))
                .collect(),
        })
        .collect();
    Ok(Measured { margin, cells })
}

/// The noise of the channel over its signal, as a law over the design.
pub(super) fn measured_law(
    design: &Design,
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<MeasuredLaw, StatsError> {
    let question = Question::QueryNoise;
    let mut points = Vec::new();
    for setting in design.settings() {
        let mean = |f: &dyn Fn(&QueryOutcome) -> f64| {
            EXTRA.mean(design, &setting, records, |r| outcome(r).map(f))
        };
        points.push(LawPoint {
            setting,
            measured: log_ratio(&mean(&|q| q.noise_squared)?, &mean(&|q| q.signal)?)?,
            predicted: question.log_value(&Theory, &setting),
        });
    }
    Ok(MeasuredLaw {
        question,
        test: test.clone(),
        count: law::count(&points),
        points,
        words: LawWords {
            symbol: "noise/signal".into(),
            axis: "noise / signal of the channel".into(),
            predicted_axis: Axis::log10("predicted noise / signal of the channel"),
            searched: None,
            interval: Interval::ScoreSize,
            allowance: String::new(),
            part: Some("noise".into()),
        },
    })
}

impl Measured {
    pub(super) fn settings(&self) -> impl Iterator<Item = Setting> {
        self.cells.iter().map(|c| c.setting)
    }

    fn bound_tests(&self, predictor: &dyn Predictor) -> Result<Vec<BoundTest>, StatsError> {
        let mut tests = Vec::new();
        for c in &self.cells {
            for trials in &c.trials {
                // The bound does not depend on the trigger, whose squared length has mean one: the
                // product keeps the expectation and takes the length's fluctuation out.
                let excess: Vec<f64> = trials
                    .iter()
                    .map(|&[alignment, bound, square]| {
                        alignment - predictor.alignment_bound(&c.setting, bound) * square
                    })
                    .collect();
                let e = mean_of_seeds(&excess, 0.95)?;
                tests.push(bound_test(
                    e.value,
                    e.standard_error,
                    e.df,
                    0.0,
                    self.margin,
                )?);
            }
        }
        Ok(tests)
    }

    /// The claim that no reading is beyond the bound.
    pub(super) fn claim(
        &self,
        experiment: &Experiment,
        predictor: &dyn Predictor,
    ) -> Result<Claim, StatsError> {
        Ok(Claim {
            id: format!("{}/bound", experiment.id),
            evidence: Evidence::Bound(BoundEvidence {
                tests: self.bound_tests(predictor)?,
                points: PointCount {
                    total: self.cells.len(),
                    censored: 0,
                },
            }),
        })
    }
}

/// Findings: no reading is better aligned than the bound; the channel's noise is that of the formula;
/// what subtraction gains.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    margin: f64,
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let cells = measure(design, records)?;
    let total = cells.len();
    let mut findings = Findings {
        trials: total * design.seeds as usize,
        looks: 2,
        fits: serde_json::json!({}),
        ..Findings::default()
    };
    let claim = measured(design, margin, records)?.claim(experiment, &Theory)?;
    if let Evidence::Bound(bound) = &claim.evidence {
        let closest = bound
            .tests
            .iter()
            .map(|t| t.excess)
            .fold(f64::NEG_INFINITY, f64::max);
        findings.notes.push(format!(
            "{} readings at {total} cells against the bound on the alignment with the trigger; closest approach {closest:+.4}, margin {margin}.",
            Reading::ALL.len(),
        ));
    }
    findings.claims.push(claim);
    let noise = measured_law(design, test, records)?;
    law::analyse(
        experiment,
        design,
        test,
        &noise.points,
        noise.count,
        &noise.words,
        &mut findings,
    )?;

    table(&cells, &noise.points, &mut findings);
    rows(experiment, design, &cells, &mut findings);
    gain(&cells, &mut findings);
    figures(experiment, design, &cells, &mut findings);
    Ok(findings)
}

fn predicted_bound(s: &Setting) -> f64 {
    query_bound::channel(s).map_or(1.0, |c| query_bound::alignment_bound(c.snr, s.dim_in))
}

/// Formula for the attention accuracy of a reading, where there is one.
fn predicted_attention(reading: Reading, s: &Setting) -> Option<f64> {
    match reading {
        Reading::Gradient => Some(accuracy::attention_accuracy(s)),
        Reading::Debiased => Some(query_bound::debiased_attention_accuracy(s)),
        Reading::Residual => None,
        Reading::Bayes => Some(query_bound::isotropic_attention_accuracy(
            s,
            predicted_bound(s),
        )),
    }
}

fn gain(cells: &[Cell], findings: &mut Findings) {
    let most = cells
        .iter()
        .max_by(|a, b| {
            let gain = |c: &Cell| c.attention[1].value - c.attention[0].value;
            gain(a).total_cmp(&gain(b))
        })
        .map(|c| {
            let s = &c.setting;
            format!(
                "Subtracting the mean bias, a function of the first gradient and the label counts, gains most at V = {}, d = {}, L = {}, N = {}: attention accuracy {:.3} ± {:.3} as descent has it, {:.3} ± {:.3} without the bias, {:.3} ± {:.3} for the Bayes query. The branch of the sample law that the mean bias rules is a property of the algorithm, not of the information.",
                s.vocab,
                s.dim_in,
                s.len,
                samples_text(s),
                c.attention[0].value,
                c.attention[0].standard_error,
                c.attention[1].value,
                c.attention[1].standard_error,
                c.attention[3].value,
                c.attention[3].standard_error,
            )
        });
    findings.notes.extend(most);
}

/// `noise` holds the settings of the cells in the same order.
fn table(cells: &[Cell], noise: &[LawPoint], findings: &mut Findings) {
    let text = |e: &Estimate| format!("{:.3} ± {:.3}", e.value, e.standard_error);
    let mut header: Vec<String> = ["V", "d", "L", "N"].map(String::from).to_vec();
    header.extend(Reading::ALL.iter().map(|r| format!("cos², {}", r.name())));
    header.extend(
        [
            "bound, trials",
            "bound, formula",
            "noise / signal",
            "formula",
        ]
        .map(Into::into),
    );
    header.extend(
        Reading::ALL
            .iter()
            .map(|r| format!("attention, {}; formula", r.name())),
    );
    let rows = cells
        .iter()
        .zip(noise)
        .map(|(c, noise)| {
            let s = &c.setting;
            let mut row = vec![
                s.vocab.to_string(),
                s.dim_in.to_string(),
                s.len.to_string(),
                samples_text(s),
            ];
            row.extend(c.cosine.iter().map(text));
            row.push(format!("{:.3}", c.bound.value));
            row.push(format!("{:.3}", predicted_bound(s)));
            row.push(
                noise
                    .measured
                    .as_ref()
                    .map_or_else(|| "—".into(), |e| format!("{:.3}", e.value.exp())),
            );
            row.push(
                query_bound::channel(s)
                    .map_or_else(|| "—".into(), |q| format!("{:.3}", q.snr.powf(-0.5))),
            );
            row.extend(Reading::ALL.iter().zip(&c.attention).map(|(r, e)| {
                let formula = predicted_attention(*r, s);
                let formula = formula.map_or_else(|| "—".into(), |p| format!("{p:.3}"));
                format!("{}; {formula}", text(e))
            }));
            row
        })
        .collect();
    findings.tables.push(Table {
        caption: format!("The query of step 2 as four readers have it: squared cosine with the trigger beside the bound on any reader, noise over signal of the channel (root mean square over mean), attention accuracy; means over trials ± standard error. {}", note(&[Interval::Trials])),
        header,
        rows,
    });
}

fn rows(experiment: &Experiment, design: &Design, cells: &[Cell], findings: &mut Findings) {
    for c in cells {
        let s = &c.setting;
        for (i, reading) in Reading::ALL.iter().enumerate() {
            // Where attention has no formula of its own the bound's is set beside it.
            let attention = predicted_attention(*reading, s).unwrap_or_else(|| {
                query_bound::isotropic_attention_accuracy(s, predicted_bound(s))
            });
            for (quantity, e, predicted) in [
                ("squared cosine against bound", &c.cosine[i], c.bound.value),
                ("attention accuracy", &c.attention[i], attention),
            ] {
                findings.cells.push(CellRow {
                    experiment: experiment.id.clone(),
                    block: design.blocks[c.block].label.clone(),
                    vocab: s.vocab,
                    dim_in: s.dim_in,
                    dim_out: s.dim_out,
                    len: s.len,
                    samples: samples_text(s),
                    quantity: format!("{quantity}, {}", reading.name()),
                    measured: e.value,
                    standard_error: e.standard_error,
                    predicted,
                    in_window: quantity.starts_with("squared"),
                    trials: design.seeds as usize,
                });
            }
        }
    }
}

fn figures(experiment: &Experiment, design: &Design, cells: &[Cell], findings: &mut Findings) {
    let points = |k: usize, value: &dyn Fn(&Cell) -> Estimate| -> Vec<Point> {
        cells
            .iter()
            .filter(|c| c.block == k)
            .map(|c| {
                let e = value(c);
                Point::new(c.setting.samples.as_f64(), e.value)
                    .y_interval(e.lower.max(0.0), e.upper.min(1.0))
            })
            .collect()
    };
    let slots = [0, 1, 3, 2];
    let (mut alignment, mut attention) = (Vec::new(), Vec::new());
    for (k, block) in design.blocks.iter().enumerate() {
        let axes = |y: &str| {
            XyFigure::new(
                block.label.clone(),
                Axis::log10("N (training samples)"),
                Axis::linear(y).range(0.0, 1.0),
            )
        };
        let line = |value: &dyn Fn(&Cell) -> f64| {
            cells
                .iter()
                .filter(|c| c.block == k)
                .map(|c| (c.setting.samples.as_f64(), value(c)))
                .collect::<Vec<_>>()
        };
        let mut cosines = axes("squared cosine with the trigger")
            .with(Line::new(
                "bound on any reader, channel of the trials",
                Style::neutral().dash(Dash::Solid),
                line(&|c| c.bound.value),
            ))
            .with(Line::new(
                "bound on any reader, formula",
                Style::neutral().dash(Dash::Dotted),
                line(&|c| predicted_bound(&c.setting)),
            ));
        let mut hits = axes("attention accuracy");
        for (i, reading) in Reading::ALL.iter().enumerate() {
            let style = Style::slot(slots[i]);
            cosines = cosines.with(Points::new(
                reading.name(),
                style,
                points(k, &|c| c.cosine[i].clone()),
            ));
            if predicted_attention(*reading, &cells[0].setting).is_some() {
                hits = hits.with(Line::new(
                    format!("{}, formula", reading.name()),
                    style,
                    line(&|c| predicted_attention(*reading, &c.setting).unwrap_or(f64::NAN)),
                ));
            }
            hits = hits.with(Points::new(
                reading.name(),
                style,
                points(k, &|c| c.attention[i].clone()),
            ));
        }
        alignment.push(cosines);
        attention.push(hits);
    }
    let columns = alignment.len().clamp(1, 2);
    for (name, caption, panels) in [
        (
            "alignment",
            "Squared cosine of the query with the trigger, as gradient descent has it and after subtracting what the first gradient predicts, beside the bound on any reader of step 2. Means over trials with 95 % intervals.",
            alignment,
        ),
        (
            "attention",
            "Argmax attention on fresh sequences with the same queries: what subtraction gains is open to any algorithm that keeps the first gradient.",
            attention,
        ),
    ] {
        findings.figures.push(NamedFigure {
            stem: format!("{}-{name}", experiment.id),
            caption: caption.into(),
            figure: PanelGrid::new(experiment.title.clone(), columns, panels).into(),
        });
    }
}
