//! From measurements to claims, with the predictions set beside them exchangeable.
//!
//! [`measure`] reduces records to what claims rest on and asks no formula but where a search was
//! placed; [`Measured::claims`] sets predictions beside it. [`super::analyse`] is the same with
//! the theory's own predictions and all that a report shows around them.

use recall_theory::Setting;

use super::cells::{self, Cell};
use super::curves::{in_window, judge};
use super::findings::Findings;
use super::law::{self, LawPoint, LawWords};
use super::predictor::Predictor;
use super::{AnalysisError, Records, bound, complete, decoders, query, scores, threshold};
use crate::spec::{
    AccuracyTest, Criterion, Design, Experiment, Kind, Quantity, Score, SearchAxis, ThresholdTest,
};
use crate::stats::StatsError;
use crate::stats::equivalence::bound_test;
use crate::stats::interval::Estimate;
use crate::stats::verdict::{BoundEvidence, Claim, Evidence, PointCount};

/// What a law's points are compared with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    Critical {
        axis: SearchAxis,
        criterion: Criterion,
    },
    Score(Score),
    Whitened {
        level: f64,
    },
    QueryNoise,
}

impl Question {
    /// Logarithm of the prediction, where there is one.
    pub(super) fn log_value(self, predictor: &dyn Predictor, s: &Setting) -> Option<f64> {
        match self {
            Question::Critical { axis, criterion } => predictor.critical(s, axis, criterion),
            Question::Score(score) => {
                let value = predictor.score(score, s);
                (value > 0.0).then(|| value.ln())
            }
            Question::Whitened { level } => predictor.whitened_samples(s, level).map(f64::ln),
            Question::QueryNoise => predictor.query_noise(s),
        }
    }
}

/// A law over a design as measured.
pub(super) struct MeasuredLaw {
    pub(super) question: Question,
    pub(super) test: ThresholdTest,
    pub(super) points: Vec<LawPoint>,
    pub(super) count: PointCount,
    pub(super) words: LawWords,
}

impl MeasuredLaw {
    fn claims(
        &self,
        experiment: &Experiment,
        design: &Design,
        predictor: &dyn Predictor,
    ) -> Result<Vec<Claim>, StatsError> {
        let points: Vec<LawPoint> = self
            .points
            .iter()
            .map(|p| LawPoint {
                predicted: self.question.log_value(predictor, &p.setting),
                ..p.clone()
            })
            .collect();
        let judged = law::judge(
            experiment,
            design,
            &self.test,
            &points,
            self.count,
            &self.words,
            predictor,
        )?;
        Ok(judged.claims)
    }
}

/// Which bound a reading is held against.
#[derive(Debug, Clone, Copy)]
pub(super) enum Limit {
    Accuracy,
    Oracle(f64),
}

/// Readings that share a claim on a bound.
pub(super) struct Limited {
    pub(super) id: String,
    pub(super) margin: f64,
    pub(super) limit: Limit,
    pub(super) readings: Vec<(Setting, Estimate)>,
}

impl Limited {
    fn claim(&self, predictor: &dyn Predictor) -> Result<Claim, StatsError> {
        let bound = |s: &Setting| match self.limit {
            Limit::Accuracy => predictor.accuracy_bound(s),
            Limit::Oracle(kappa) => predictor.oracle_bound(s, kappa),
        };
        let tests = self
            .readings
            .iter()
            .map(|(s, e)| bound_test(e.value, e.standard_error, e.df, bound(s), self.margin))
            .collect::<Result<Vec<_>, _>>()?;
        let total = tests.len();
        Ok(Claim {
            id: self.id.clone(),
            evidence: Evidence::Bound(BoundEvidence {
                tests,
                points: PointCount { total, censored: 0 },
            }),
        })
    }
}

/// One kind of measured part; each makes claims.
enum Part {
    Law(Box<MeasuredLaw>),
    Cells {
        quantity: Quantity,
        test: AccuracyTest,
        cells: Vec<Cell>,
    },
    Limited(Limited),
    Query(query::Measured),
}

/// What the records of an experiment say.
pub struct Measured {
    parts: Vec<Part>,
}

/// Reduces the records of a complete experiment to what its claims rest on.
///
/// # Errors
/// As [`super::analyse`].
pub fn measure(
    experiment: &Experiment,
    design: &Design,
    records: &dyn Records,
) -> Result<Measured, AnalysisError> {
    complete(experiment, design, records)?;
    parts(experiment, design, records)
        .map(|parts| Measured { parts })
        .map_err(|source| AnalysisError::Statistics {
            experiment: experiment.id.clone(),
            source,
        })
}

fn parts(
    experiment: &Experiment,
    design: &Design,
    records: &dyn Records,
) -> Result<Vec<Part>, StatsError> {
    let law = |law: MeasuredLaw| Part::Law(Box::new(law));
    Ok(match &experiment.kind {
        Kind::Threshold { search, test, .. } => {
            vec![law(threshold::measured_law(design, search, test, records)?)]
        }
        Kind::Scores { quantities, test } => {
            let laws = scores::measured_laws(design, quantities, test, records)?;
            laws.into_iter().map(law).collect()
        }
        Kind::Curves {
            quantities, test, ..
        } => match quantities.first() {
            Some(&quantity) => vec![Part::Cells {
                quantity,
                test: test.clone(),
                cells: cells::measure(design, quantity, records)?,
            }],
            None => Vec::new(),
        },
        Kind::Phase { quantity, test, .. } => vec![Part::Cells {
            quantity: *quantity,
            test: test.clone(),
            cells: cells::measure(design, *quantity, records)?,
        }],
        Kind::Bound(task) => {
            let limited = bound::limited(experiment, design, task, records)?;
            limited.into_iter().map(Part::Limited).collect()
        }
        Kind::Decoders(task) => {
            let limited = decoders::limited(experiment, design, task, records)?;
            let whitened = decoders::measured_law(design, task, records)?;
            std::iter::once(Part::Limited(limited))
                .chain(whitened.map(law))
                .collect()
        }
        Kind::Query { margin, test } => vec![
            Part::Query(query::measured(design, *margin, records)?),
            law(query::measured_law(design, test, records)?),
        ],
    })
}

impl Measured {
    /// Claims with their evidence when these predictions are set beside the measurements.
    ///
    /// # Errors
    /// If the predictions cannot carry the statistics, such as when there are too few of them.
    pub fn claims(
        &self,
        experiment: &Experiment,
        design: &Design,
        predictor: &dyn Predictor,
    ) -> Result<Vec<Claim>, StatsError> {
        let mut claims = Vec::new();
        for part in &self.parts {
            match part {
                Part::Law(law) => claims.extend(law.claims(experiment, design, predictor)?),
                Part::Cells {
                    quantity,
                    test,
                    cells,
                } => {
                    let cells: Vec<Cell> = cells
                        .iter()
                        .map(|c| Cell {
                            predicted: predictor.accuracy(*quantity, &c.setting),
                            ..c.clone()
                        })
                        .collect();
                    // The window is part of the test and looks at predictions: a wrong theory
                    // would have chosen its own.
                    let window: Vec<bool> = cells
                        .iter()
                        .map(|c| in_window(test, c, predictor))
                        .collect();
                    let mut findings = Findings::default();
                    judge(
                        experiment,
                        test,
                        &cells,
                        &window,
                        &design.blocks,
                        &mut findings,
                    )?;
                    claims.extend(findings.claims);
                }
                Part::Limited(limited) => claims.push(limited.claim(predictor)?),
                Part::Query(query) => claims.push(query.claim(experiment, predictor)?),
            }
        }
        Ok(claims)
    }

    /// Settings that predictions are asked at.
    pub fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for part in &self.parts {
            match part {
                Part::Law(law) => settings.extend(law.points.iter().map(|p| p.setting)),
                Part::Cells { cells, .. } => settings.extend(cells.iter().map(|c| c.setting)),
                Part::Limited(limited) => settings.extend(limited.readings.iter().map(|r| r.0)),
                Part::Query(query) => settings.extend(query.settings()),
            }
        }
        settings
    }
}
