//! Which changes are made for which experiment.

use recall_theory::noise::Noise;
use recall_theory::{Setting, registry};

use super::mutant::{Change, DesignSize, Mutant, Site};
use crate::experiment::{Factors, Predictor, Theory, at};
use crate::spec::{
    Criterion, Design, Experiment, Exponents, Kind, Quantity, Score, SearchAxis, SweepAxis,
};

/// Changes of a constant.
pub const CONSTANTS: [f64; 3] = [0.7, 1.4, 2.0];
/// Changes of an exponent.
pub const EXPONENTS: [f64; 4] = [-0.5, -0.25, 0.25, 0.5];

/// A mutant with the formula that it changes.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Id of the formula.
    pub formula: String,
    /// The wrong theory.
    pub mutant: Mutant,
}

/// A formula that a claim names and that this experiment offers no place to change.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Untouched {
    /// Id of the formula.
    pub formula: String,
    /// Claim that names it.
    pub claim: String,
    /// Experiment.
    pub experiment: String,
    /// Why.
    pub reason: &'static str,
}

/// The size along which an experiment's accuracies are moved.
fn axis_of(kind: &Kind) -> SearchAxis {
    match kind {
        Kind::Threshold { search, .. } => search.axis,
        Kind::Curves { axis, .. } => match axis {
            SweepAxis::Dim => SearchAxis::Dim,
            SweepAxis::Vocab => SearchAxis::Vocab,
            SweepAxis::Width => SearchAxis::Width,
            SweepAxis::Samples | SweepAxis::Len => SearchAxis::Samples,
        },
        Kind::Phase { x, .. } => *x,
        _ => SearchAxis::Samples,
    }
}

/// Sizes that vary over the design, with their centres.
fn sizes(kind: &Kind, settings: &[Setting]) -> Vec<DesignSize> {
    // A size that is searched is what is predicted, not a factor of the prediction.
    let searched = match kind {
        Kind::Threshold { search, .. } => Some(search.axis),
        Kind::Decoders { .. } => Some(SearchAxis::Samples),
        _ => None,
    };
    if settings.is_empty() {
        return Vec::new();
    }
    let factors = Factors::of(settings, searched);
    let all = factors.names.into_iter().zip(factors.value);
    all.map(|(name, value)| {
        let logs: Vec<f64> = settings
            .iter()
            .map(|s| value(s).ln())
            .filter(|x| x.is_finite())
            .collect();
        DesignSize {
            name,
            value,
            centre: (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp(),
        }
    })
    .collect()
}

/// Formula of an accuracy.
fn accuracy_formula(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Attention => "attention.accuracy",
        Quantity::Recall => "recall.accuracy",
        Quantity::Accuracy => "accuracy.end_to_end",
        Quantity::OneStep => "one_step.accuracy",
    }
}

/// Id of a noise term's formula, for either model.
fn term_formula(term: &str, named: &[&'static str]) -> String {
    let ending = format!(".{term}");
    // The asymptotic law that a term gives rise to bears its name, too.
    let of_claim = named
        .iter()
        .find(|id| id.ends_with(&ending) && !id.starts_with("thresholds."));
    of_claim.map_or_else(|| format!("attention.{term}"), |id| (*id).to_owned())
}

/// Noise terms that exist somewhere on the design.
fn terms(settings: &[Setting]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for s in settings {
        for (name, variance) in Noise::of(s).terms {
            if variance > 0.0 && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

const THROUGH_TERMS: &str = "changed term by term";
const ORDER_ONLY: &str = "sorts points and cells on maps; no verdict rests on it";
const FINITE_ONLY: &str =
    "leading form of the finite-size formula, which is what this experiment tests";
const THROUGH: &str = "enters through a formula that is changed as a whole";

/// A formula's id and where it can be changed.
type Place = (String, Site);

/// A formula's id and why it is not changed.
type Reasoned = (&'static str, &'static str);

/// Places at which formulas can be changed, and why the others cannot.
fn places(
    experiment: &Experiment,
    design: &Design,
    settings: &[Setting],
) -> (Vec<Place>, Vec<Reasoned>) {
    let named = registry::claim(&experiment.claim).map_or(&[][..], |c| c.formula_ids);
    let mut places: Vec<Place> = Vec::new();
    match &experiment.kind {
        Kind::Threshold { search, .. } => match search.criterion {
            Criterion::NoiseRatio { .. } => {
                places.push(("thresholds.noise_ratio".into(), Site::Prediction));
                // The settings of a search say nothing of the size searched.
                let critical: Vec<Setting> = settings
                    .iter()
                    .filter_map(|s| {
                        let log = Theory.critical(s, search.axis, search.criterion)?;
                        Some(at(s, search.axis, log.exp().round() as u64))
                    })
                    .collect();
                for term in terms(&critical).into_iter().filter(|t| *t != "trigger") {
                    places.push((term_formula(term, named), Site::Term(term)));
                }
            }
            Criterion::Accuracy { quantity, .. } => {
                places.push((accuracy_formula(quantity).into(), Site::Prediction));
            }
        },
        Kind::Scores { quantities, .. } => {
            if quantities.contains(&Score::Spread) {
                places.push(("attention.budget".into(), Site::Spread));
            }
            for term in terms(settings) {
                places.push((term_formula(term, named), Site::Term(term)));
            }
        }
        Kind::Curves { quantities, .. } => {
            if let Some(&quantity) = quantities.first() {
                places.extend(accuracy_places(quantity));
            }
        }
        Kind::Phase { quantity, .. } => places.extend(accuracy_places(*quantity)),
        Kind::Bound { oracle, .. } => {
            places.push(("lower_bound.accuracy".into(), Site::AccuracyBound));
            if !oracle.is_empty() {
                places.push(("lower_bound.noisy_oracle".into(), Site::OracleBound));
            }
        }
        Kind::Decoders { .. } => {
            places.push(("lower_bound.accuracy".into(), Site::AccuracyBound));
            places.push(("whitened.samples".into(), Site::Whitened));
        }
        Kind::Query { .. } => {
            places.push(("query_bound.snr".into(), Site::QueryNoise));
            places.push(("query_bound.alignment".into(), Site::Alignment));
        }
    }
    let asymptotic = named.iter().find(|id| {
        id.starts_with("thresholds.")
            && !["thresholds.noise_ratio", "thresholds.regime"].contains(id)
    });
    if let (Some(id), Some(_)) = (asymptotic, &design.asymptotic) {
        places.push(((*id).to_owned(), Site::Asymptotic));
    }
    let untouched = named
        .iter()
        .filter(|id| !places.iter().any(|(formula, _)| formula == *id))
        .map(|id| {
            let reason = match *id {
                "attention.budget" if places.iter().any(|p| matches!(p.1, Site::Term(_))) => {
                    THROUGH_TERMS
                }
                "thresholds.regime" => ORDER_ONLY,
                id if id.starts_with("thresholds.") => FINITE_ONLY,
                _ => THROUGH,
            };
            (*id, reason)
        })
        .collect();
    (places, untouched)
}

fn accuracy_places(quantity: Quantity) -> Vec<Place> {
    let mut places = vec![(accuracy_formula(quantity).to_owned(), Site::Prediction)];
    if quantity == Quantity::Accuracy {
        for part in [Quantity::Attention, Quantity::Recall] {
            places.push((accuracy_formula(part).to_owned(), Site::Component(part)));
        }
    }
    places
}

fn stated(law: &Exponents, name: &str) -> Option<f64> {
    match name {
        "d" => law.dim,
        "L" => law.len,
        "V" => law.vocab,
        "m" => law.width,
        _ => law.samples,
    }
}

/// All mutants of an experiment, and the formulas that it leaves alone.
#[must_use]
pub fn plan(
    experiment: &Experiment,
    design: &Design,
    settings: &[Setting],
) -> (Vec<Planned>, Vec<Untouched>) {
    let axis = axis_of(&experiment.kind);
    let sizes = sizes(&experiment.kind, settings);
    let (places, left) = places(experiment, design, settings);
    let mut mutants = Vec::new();
    for (formula, site) in places {
        let mut changes: Vec<Change> = Vec::new();
        if site != Site::Asymptotic {
            changes.extend(CONSTANTS.map(Change::Constant));
        }
        for &size in &sizes {
            let law = design.asymptotic.as_ref();
            if site == Site::Asymptotic && law.and_then(|l| stated(l, size.name)).is_none() {
                continue;
            }
            changes.extend(EXPONENTS.map(|by| Change::Exponent { size, by }));
            if site != Site::Asymptotic {
                changes.extend([true, false].map(|times| Change::Log { size, times }));
            }
        }
        if matches!(site, Site::Term(_)) {
            changes.push(Change::Dropped);
        }
        mutants.extend(changes.into_iter().map(|change| Planned {
            formula: formula.clone(),
            mutant: Mutant { site, change, axis },
        }));
    }
    let untouched = left
        .into_iter()
        .map(|(formula, reason)| Untouched {
            formula: formula.to_owned(),
            claim: experiment.claim.clone(),
            experiment: experiment.id.clone(),
            reason,
        })
        .collect();
    (mutants, untouched)
}
