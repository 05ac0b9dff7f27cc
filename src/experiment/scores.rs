//! Sizes of attention scores over a design: one law for each.

use recall_theory::Setting;

use super::Records;
use super::evidence::{MeasuredLaw, Question};
use super::findings::Findings;
use super::law::{self, LawPoint, LawWords};
use super::predictor::Theory;
use crate::figure::Axis;
use crate::job::Record;
use crate::spec::{Design, Experiment, Score, ThresholdTest};
use crate::stats::StatsError;
use crate::stats::coverage::Interval;
use crate::stats::interval::{Estimate, log_mean_of_seeds};

/// What one trial contributes: the signal itself, or a variance over tokens.
pub(crate) fn contribution(score: Score, record: &Record) -> Option<f64> {
    let o = &record.outcome;
    match score {
        Score::Signal => Some(o.signal),
        Score::Spread => Some(o.spread_squared),
        Score::Interference => Some(o.interference_squared),
        term => Some(o.noise.as_ref()?.values()[term.term()?]),
    }
}

/// Logarithm of the size at a setting, from the mean over trials; `None` where that mean is not
/// positive.
fn measure(
    design: &Design,
    s: &Setting,
    score: Score,
    records: &dyn Records,
) -> Result<Option<Estimate>, StatsError> {
    let values: Vec<f64> = (0..design.seeds)
        .filter_map(|seed| contribution(score, records.measured(&design.job(s, seed))?))
        .collect();
    let Some(mean) = log_mean_of_seeds(&values, 0.95)? else {
        return Ok(None);
    };
    // A root of a mean square, unless it is the signal itself.
    let power = if score == Score::Signal { 1.0 } else { 0.5 };
    Estimate::new(
        power * mean.value,
        power * mean.standard_error,
        mean.df,
        0.95,
    )
    .map(Some)
}

/// The laws as measured, with the formula's values.
pub(super) fn measured_laws(
    design: &Design,
    quantities: &[Score],
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<Vec<MeasuredLaw>, StatsError> {
    let settings: Vec<Setting> = design.settings().collect();
    let law =
        |score: &Score| measured_law(design, &settings, quantities.len(), *score, test, records);
    quantities.iter().map(law).collect()
}

fn measured_law(
    design: &Design,
    settings: &[Setting],
    laws: usize,
    score: Score,
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<MeasuredLaw, StatsError> {
    let question = Question::Score(score);
    let mut points = Vec::new();
    for s in settings {
        points.push(LawPoint {
            setting: *s,
            measured: measure(design, s, score, records)?,
            predicted: question.log_value(&Theory, s),
        });
    }
    let (symbol, words) = score.words();
    Ok(MeasuredLaw {
        question,
        test: test.clone(),
        count: law::count(&points),
        points,
        words: LawWords {
            symbol: symbol.to_owned(),
            axis: format!("{words} (units of S0)"),
            predicted_axis: Axis::log10(format!("predicted {words} (units of S0)")),
            searched: None,
            interval: Interval::ScoreSize,
            allowance: String::new(),
            part: (laws > 1).then(|| score.id()),
        },
    })
}

/// Findings of a score experiment.
pub(super) fn analyse(
    experiment: &Experiment,
    design: &Design,
    quantities: &[Score],
    test: &ThresholdTest,
    records: &dyn Records,
) -> Result<Findings, StatsError> {
    let settings: Vec<Setting> = design.settings().collect();
    let mut findings = Findings {
        trials: settings.len() * design.seeds as usize,
        looks: quantities.len(),
        fits: serde_json::json!({}),
        ..Findings::default()
    };
    for &score in quantities {
        let MeasuredLaw {
            points,
            count,
            words: law_words,
            ..
        } = measured_law(design, &settings, quantities.len(), score, test, records)?;
        let symbol = score.words().0;
        law::analyse(
            experiment,
            design,
            test,
            &points,
            count,
            &law_words,
            &mut findings,
        )?;
        note_deviating(&mut findings, &points, symbol, test.constant);
    }
    Ok(findings)
}

/// Points that deviate by more than three standard errors and the margin.
fn note_deviating(findings: &mut Findings, points: &[LawPoint], symbol: &str, constant: f64) {
    for p in points {
        let (Some(e), Some(predicted)) = (&p.measured, p.predicted) else {
            continue;
        };
        let deviation = e.value - predicted;
        if deviation.abs() > 3.0 * e.standard_error && deviation.abs() > constant.ln() {
            findings.misfits.push(format!(
                "{}: {symbol} measured {:.3}, formula {:.3}: a factor {:.2}, {:.1} standard errors.",
                law::place(&p.setting, None),
                e.value.exp(),
                predicted.exp(),
                deviation.exp(),
                deviation.abs() / e.standard_error,
            ));
        }
    }
}
