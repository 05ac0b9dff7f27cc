//! Which changes are made for which experiment.

use recall_theory::{Setting, registry};

use super::mutant::{Change, DesignSize, Mutant, Site};
use crate::experiment::{Factors, Predictor, Theory, at, noise_of};
use crate::spec::{
    Criterion, Design, Experiment, Exponents, Kind, Quantity, Score, SearchAxis, SweepAxis,
};

/// Changes of a constant.
pub const CONSTANTS: [f64; 3] = [0.7, 1.4, 2.0];
/// Changes of an exponent.
pub const EXPONENTS: [f64; 4] = [-0.5, -0.25, 0.25, 0.5];

/// A formula with its changes and the experiments whose claims rest on it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Id of the formula.
    pub formula: String,
    /// Where it is changed.
    pub site: Site,
    /// The size along which an accuracy is moved; of no account elsewhere.
    pub axis: SearchAxis,
    /// The changes. Exponents and logarithms leave the formula as it is at one place, the geometric
    /// mean of all settings at which these experiments ask for it.
    pub changes: Vec<Change>,
    /// Positions of the experiments.
    pub experiments: Vec<usize>,
}

impl Planned {
    /// Symbol of the size along which the formula is moved, for accuracies.
    #[must_use]
    pub fn along(&self) -> Option<&'static str> {
        matches!(self.site, Site::Accuracy(_)).then(|| match self.axis {
            SearchAxis::Samples => "N",
            SearchAxis::Dim => "d",
            SearchAxis::Width => "m",
            SearchAxis::Vocab => "V",
        })
    }

    /// Its mutant with one of the changes.
    #[must_use]
    pub fn mutant(&self, change: Change) -> Mutant {
        Mutant {
            site: self.site,
            change,
            axis: self.axis,
        }
    }
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

/// Sizes that vary over settings, but for one.
fn sizes_of(settings: &[Setting], but: Option<SearchAxis>) -> Vec<DesignSize> {
    if settings.is_empty() {
        return Vec::new();
    }
    let factors = Factors::of(settings, but);
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

/// Formula of an accuracy: the models have formulas of their own.
fn accuracy_formula(quantity: Quantity, mlp: bool) -> &'static str {
    match (quantity, mlp) {
        (Quantity::Attention, false) => "attention.accuracy",
        (Quantity::Attention, true) => "mlp.attention_accuracy",
        (Quantity::Recall, false) => "recall.accuracy",
        (Quantity::Recall, true) => "mlp.recall_accuracy",
        (Quantity::Accuracy, false) => "accuracy.end_to_end",
        (Quantity::Accuracy, true) => "mlp.end_to_end",
        (Quantity::OneStep, _) => "one_step.accuracy",
    }
}

/// The noise budget of a model.
fn budget_formula(mlp: bool) -> &'static str {
    if mlp {
        "mlp.budget"
    } else {
        "attention.budget"
    }
}

/// Id of a noise term's formula.
fn term_formula(term: &str, mlp: bool) -> String {
    match mlp {
        true => format!("mlp.budget.{term}"),
        false => format!("attention.{term}"),
    }
}

/// Settings at which predictions are asked for, searches at the critical value: their settings say
/// nothing of the size searched.
fn asked(kind: &Kind, settings: &[Setting]) -> Vec<Setting> {
    let Kind::Threshold { search, .. } = kind else {
        return settings.to_vec();
    };
    settings
        .iter()
        .filter_map(|s| {
            let log = Theory.critical(s, search.axis, search.criterion)?;
            Some(at(s, search.axis, log.exp().round() as u64))
        })
        .collect()
}

/// Noise terms that an experiment can see: those that exist somewhere on its design, the crosstalk
/// of the trigger only where it is part of what is measured.
fn visible_terms(kind: &Kind, asked: &[Setting]) -> Vec<&'static str> {
    let searched = match kind {
        Kind::Threshold { search, .. } => {
            if !matches!(search.criterion, Criterion::NoiseRatio { .. }) {
                return Vec::new();
            }
            true
        }
        Kind::Scores { .. } => false,
        _ => return Vec::new(),
    };
    let mut names = terms(asked);
    names.retain(|term| !searched || *term != "trigger");
    names
}

/// Noise terms that exist somewhere on the design.
fn terms(settings: &[Setting]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for s in settings {
        for &(name, variance) in &noise_of(s).terms {
            if variance > 0.0 && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Whether a term exists at a setting.
fn exists(term: &str, s: &Setting) -> bool {
    let noise = noise_of(s);
    noise
        .terms
        .iter()
        .any(|(name, v)| *name == term && *v > 0.0)
}

const ORDER_ONLY: &str = "sorts points and cells on maps; no verdict rests on it";
const FINITE_ONLY: &str =
    "leading form of the finite-size formula, which is what this experiment tests";
const THROUGH: &str = "enters through a formula that is changed as a whole";

/// A place at which an experiment offers a formula for a change.
struct Place {
    formula: String,
    site: Site,
    /// Whether the formula is what the experiment's claim states, and no term or part of it.
    whole: bool,
}

impl Place {
    fn whole(formula: impl Into<String>, site: Site) -> Self {
        Place {
            formula: formula.into(),
            site,
            whole: true,
        }
    }

    fn within(formula: impl Into<String>, site: Site) -> Self {
        Place {
            whole: false,
            ..Place::whole(formula, site)
        }
    }
}

/// Places at which formulas can be changed.
fn places(experiment: &Experiment, design: &Design, asked: &[Setting]) -> Vec<Place> {
    let mlp = asked.iter().any(|s| s.model.mlp().is_some());
    let mut places: Vec<Place> = Vec::new();
    match &experiment.kind {
        Kind::Threshold { search, .. } => match search.criterion {
            Criterion::NoiseRatio { .. } => {
                places.push(Place::whole("thresholds.noise_ratio", Site::NoiseRatio));
                places.push(Place::within(budget_formula(mlp), Site::Budget));
            }
            // The accuracy at many vocabularies, part by part, would take longer than all the rest.
            Criterion::Accuracy { quantity, .. } if search.axis == SearchAxis::Vocab => {
                places.extend(accuracies(quantity, mlp).into_iter().filter(|p| p.whole));
            }
            Criterion::Accuracy { quantity, .. } => places.extend(accuracies(quantity, mlp)),
        },
        Kind::Scores { quantities, .. } => {
            let sums = [Score::Spread, Score::Interference];
            if sums.iter().any(|sum| quantities.contains(sum)) {
                places.push(Place::whole(budget_formula(mlp), Site::Budget));
            }
        }
        Kind::Curves { quantities, .. } => {
            // The first is the one that is judged.
            if let Some(&quantity) = quantities.first() {
                places.extend(accuracies(quantity, mlp));
            }
        }
        Kind::Phase { quantity, .. } => places.extend(accuracies(*quantity, mlp)),
        Kind::Bound(task) => {
            places.push(Place::whole("lower_bound.accuracy", Site::AccuracyBound));
            if !task.oracle.is_empty() {
                places.push(Place::whole("lower_bound.noisy_oracle", Site::OracleBound));
            }
        }
        Kind::Decoders(_) => {
            places.push(Place::whole("lower_bound.accuracy", Site::AccuracyBound));
            places.push(Place::whole("whitened.samples", Site::Whitened));
        }
        Kind::Query { .. } => {
            places.push(Place::whole("query_bound.snr", Site::QueryNoise));
            places.push(Place::whole("query_bound.alignment", Site::Alignment));
        }
    }
    for term in visible_terms(&experiment.kind, asked) {
        places.push(Place::within(term_formula(term, mlp), Site::Term(term)));
    }
    let asymptotic = named(experiment).iter().find(|id| {
        id.starts_with("thresholds.")
            && !["thresholds.noise_ratio", "thresholds.regime"].contains(id)
    });
    if let (Some(id), Some(_)) = (asymptotic, &design.asymptotic) {
        places.push(Place::whole(*id, Site::Asymptotic));
    }
    places
}

/// An accuracy, and its parts if it is a product.
fn accuracies(quantity: Quantity, mlp: bool) -> Vec<Place> {
    let place = |q| (accuracy_formula(q, mlp), Site::Accuracy(q));
    let (formula, site) = place(quantity);
    let mut places = vec![Place::whole(formula, site)];
    if quantity == Quantity::Accuracy {
        for part in [Quantity::Attention, Quantity::Recall] {
            let (formula, site) = place(part);
            places.push(Place::within(formula, site));
        }
    }
    places
}

/// Formulas that an experiment's claim names.
fn named(experiment: &Experiment) -> &'static [&'static str] {
    registry::claim(&experiment.claim).map_or(&[], |c| c.formula_ids)
}

/// Formulas that a claim names and that are not changed here, with the reason.
fn untouched(experiment: &Experiment, places: &[Place]) -> Vec<Untouched> {
    named(experiment)
        .iter()
        .filter(|id| !places.iter().any(|p| p.formula == **id))
        .map(|id| Untouched {
            formula: (*id).to_owned(),
            claim: experiment.claim.clone(),
            experiment: experiment.id.clone(),
            reason: match *id {
                "thresholds.regime" => ORDER_ONLY,
                id if id.starts_with("thresholds.") => FINITE_ONLY,
                _ => THROUGH,
            },
        })
        .collect()
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

/// Settings of a formula and the searched sizes, by experiment, from which its changes follow.
struct Uses {
    planned: Planned,
    settings: Vec<Setting>,
    /// Size that each experiment searches and that is no factor of this formula there.
    searched: Vec<Option<SearchAxis>>,
    laws: Vec<Exponents>,
}

impl Uses {
    fn changes(&self) -> Vec<Change> {
        let site = self.planned.site;
        let mut changes: Vec<Change> = Vec::new();
        if site != Site::Asymptotic {
            changes.extend(CONSTANTS.map(Change::Constant));
        }
        if matches!(site, Site::Term(_)) {
            changes.push(Change::Dropped);
        }
        // What every experiment searches is what is predicted, not a factor of the prediction.
        let first = self.searched.first().copied().flatten();
        let but = first.filter(|axis| self.searched.iter().all(|s| *s == Some(*axis)));
        for size in sizes_of(&self.settings, but) {
            let of_law = self.laws.iter().any(|l| stated(l, size.name).is_some());
            if site == Site::Asymptotic && !of_law {
                continue;
            }
            changes.extend(EXPONENTS.map(|by| Change::Exponent { size, by }));
            if site != Site::Asymptotic {
                changes.extend([true, false].map(|times| Change::Log { size, times }));
            }
        }
        changes
    }
}

/// Size that an experiment searches and that is no factor of the formula at a site.
fn searched(kind: &Kind, site: Site) -> Option<SearchAxis> {
    match (kind, site) {
        // Noise is asked for at any sample size; the search finds where it has the level.
        (Kind::Threshold { .. }, Site::Term(_) | Site::Budget) => None,
        (Kind::Threshold { search, .. }, _) => Some(search.axis),
        (Kind::Decoders(_), Site::Whitened) => Some(SearchAxis::Samples),
        _ => None,
    }
}

/// An experiment with its design and the settings that its claims rest on.
pub type Used<'a> = (&'a Experiment, &'a Design, Vec<Setting>);

/// Every formula with its changes over a whole report, and the formulas that are left alone.
#[must_use]
pub fn plan(experiments: &[Used]) -> (Vec<Planned>, Vec<Untouched>) {
    let mut found: Vec<Uses> = Vec::new();
    let mut left = Vec::new();
    for (index, (experiment, design, settings)) in experiments.iter().enumerate() {
        let asked = asked(&experiment.kind, settings);
        let places = places(experiment, design, &asked);
        left.extend(untouched(experiment, &places));
        for place in &places {
            add(&mut found, index, (experiment, design), place, &asked);
        }
    }
    (found.into_iter().map(finish).collect(), left)
}

/// Whole formulas with their changes in one experiment by itself.
#[must_use]
pub fn plan_alone(index: usize, (experiment, design, settings): &Used) -> Vec<Planned> {
    let asked = asked(&experiment.kind, settings);
    let mut found = Vec::new();
    for place in places(experiment, design, &asked) {
        if place.whole {
            add(&mut found, index, (experiment, design), &place, &asked);
        }
    }
    found.into_iter().map(finish).collect()
}

fn finish(uses: Uses) -> Planned {
    Planned {
        changes: uses.changes(),
        ..uses.planned
    }
}

/// Adds an experiment to the uses of a formula.
fn add(
    found: &mut Vec<Uses>,
    index: usize,
    (experiment, design): (&Experiment, &Design),
    place: &Place,
    asked: &[Setting],
) {
    let axis = match place.site {
        Site::Accuracy(_) => axis_of(&experiment.kind),
        _ => SearchAxis::Samples,
    };
    let same = |u: &Uses| {
        let p = &u.planned;
        p.formula == place.formula && p.site == place.site && p.axis == axis
    };
    let slot = found.iter().position(same).unwrap_or_else(|| {
        found.push(Uses {
            planned: Planned {
                formula: place.formula.clone(),
                site: place.site,
                axis,
                changes: Vec::new(),
                experiments: Vec::new(),
            },
            settings: Vec::new(),
            searched: Vec::new(),
            laws: Vec::new(),
        });
        found.len() - 1
    });
    let uses = &mut found[slot];
    uses.planned.experiments.push(index);
    uses.searched.push(searched(&experiment.kind, place.site));
    uses.laws.extend(design.asymptotic.clone());
    uses.settings
        .extend(asked.iter().filter(|s| match place.site {
            Site::Term(term) => exists(term, s),
            _ => true,
        }));
}
