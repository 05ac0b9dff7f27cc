//! `recall predict`: what the theory says about one setting.

use std::fmt::Write as _;

use recall_theory::lower_bound::{self, Absence};
use recall_theory::one_step::OneStepThreshold;
use recall_theory::predict::{
    AttentionKind, ByQuantity, Decoders, LowerBounds, Prediction, PredictionScope, Thresholds,
    predict_in,
};
use recall_theory::thresholds::{Regime, Threshold};
use recall_theory::{Attention, Samples};
use serde_json::{Map, Value, json};

use super::{Answer, Failure, exit, output, simulate};
use crate::job::Engine;

const IDLE: &str = "Accepted without effect (options of simulate)";

/// Arguments of `predict`: those of `simulate` and two more.
#[derive(Debug, clap::Args)]
#[group(skip)] // it would have the name of the group of `simulate`
#[command(
    mut_arg("trials", idle),
    mut_arg("seed", idle),
    mut_arg("threads", idle),
    mut_arg("precision", idle),
    mut_arg("test_sequences", idle),
    mut_arg("no_decompose", idle),
    mut_arg("gamma_v", idle),
    mut_arg("engine", |arg| arg.help(
        "The formulas are those of the small-step limit (early); with exact, --eta and --gamma-w only set the attention strength"
    )),
    after_help = "Signal, spread and noise are in units of S0 = eta/(L^2 V), times m with a hidden layer. The options of simulate are all accepted, so that one command line serves both; nothing is simulated."
)]
pub struct Args {
    /// Options of `simulate`.
    #[command(flatten)]
    pub simulate: simulate::Args,
    /// Accuracy at which thresholds and lower bounds are given
    #[arg(long, value_name = "P", default_value = "0.5", value_parser = level, allow_negative_numbers = true)]
    pub level: f64,
    /// Skip thresholds and lower bounds, which are searches and take up to seconds
    #[arg(long, visible_alias = "no-thresholds")]
    pub quick: bool,
}

fn idle(arg: clap::Arg) -> clap::Arg {
    arg.help_heading(IDLE)
}

fn level(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if p > 0.0 && p < 1.0 => Ok(p),
        _ => Err("an accuracy strictly between 0 and 1".to_owned()),
    }
}

/// Runs `predict`.
///
/// # Errors
/// If the options are out of range.
pub fn run(args: &Args) -> Answer {
    output::print(&answer(args)?)?;
    Ok(exit::OK)
}

/// What `predict` prints.
///
/// # Errors
/// If the options are out of range.
pub fn answer(args: &Args) -> Result<String, Failure> {
    let exact = matches!(args.simulate.engine()?, Engine::Exact { .. });
    let setting = if exact {
        let setting = simulate::effective_setting(&args.simulate.job(0)?.config);
        setting
            .validate()
            .map_err(|e| Failure::Usage(format!("--eta and --gamma-w amount to {e}")))?;
        setting
    } else {
        args.simulate.setting.setting()? // formulas take sizes that no simulation could
    };
    let scope = if args.quick {
        PredictionScope::Accuracies
    } else {
        PredictionScope::Full
    };
    let prediction = predict_in(&setting, args.level, scope);
    let notes = notes(&prediction, exact);
    Ok(if args.simulate.json {
        format!("{}\n", json(&prediction, &notes)?)
    } else {
        text(&prediction, &notes)
    })
}

fn notes(p: &Prediction, exact: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if exact {
        notes.push(
            "The formulas are those of the small-step limit; of the exact engine's step sizes they use only the attention strength that eta and gamma_w amount to."
                .to_owned(),
        );
    }
    if p.setting.samples == Samples::Infinite {
        notes.push("With N infinite there is no training batch, so no accuracy on it.".to_owned());
    }
    notes
}

fn absence(reason: Absence) -> &'static str {
    match reason {
        Absence::BadTarget => "the level is no accuracy",
        Absence::Coverage => "no dimension helps: too many tokens are unseen",
        Absence::Channel => "no dimension helps: even full rank carries too little",
        Absence::SamplesBeyondRange => "the bound exceeds 2^40 samples",
        Absence::VocabBeyondRange => "the bound exceeds 2^24 tokens",
        Absence::NoVocab => "every vocabulary of two tokens or more is excluded",
        Absence::NoFreeDimension => "both tables are orthonormal: no dimension is free",
    }
}

const TRIVIAL: &str = "the bound excludes nothing";

fn bound_json(threshold: &lower_bound::Threshold) -> Value {
    match threshold {
        lower_bound::Threshold::At(_) => json!(threshold),
        lower_bound::Threshold::Trivial => json!({"kind": "trivial", "reason": TRIVIAL}),
        lower_bound::Threshold::Absent { reason } => {
            json!({"kind": "unreachable", "reason": absence(*reason)})
        }
    }
}

fn bounds_json(b: &LowerBounds) -> Value {
    json!({
        "samples": bound_json(&b.samples),
        "dim": bound_json(&b.dim),
        "vocab": bound_json(&b.vocab),
        "accuracy_upper_bound": b.accuracy_upper_bound,
    })
}

/// One object, with the keys of `simulate --json` where both have the quantity.
fn json(p: &Prediction, notes: &[String]) -> Result<Value, Failure> {
    let mut all = match json!(p) {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    all.insert("attention".to_owned(), simulate::attention(&p.setting));
    if let AttentionKind::Strength { weight, .. } = p.attention {
        all.insert("attention_weight".to_owned(), json!(weight));
    }
    if p.setting.samples == Samples::Infinite {
        all.remove("train_attention_accuracy");
    }
    if let Some(bounds) = &p.lower_bound {
        all.insert("lower_bound".to_owned(), bounds_json(bounds));
    }
    if !notes.is_empty() {
        all.insert("notes".to_owned(), json!(notes));
    }
    let all = Value::Object(all);
    // JSON has no word for what is not finite.
    match null_in(&all) {
        None => Ok(all),
        Some(path) => Err(Failure::Error(format!(
            "the prediction of {path} is not finite at this setting; report this"
        ))),
    }
}

/// Where a null stands, if there is one.
fn null_in(value: &Value) -> Option<String> {
    let below = |key: &str, inner: Option<String>| {
        inner.map(|rest| {
            if rest.is_empty() {
                key.to_owned()
            } else {
                format!("{key}.{rest}")
            }
        })
    };
    match value {
        Value::Null => Some(String::new()),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .find_map(|(i, v)| below(&i.to_string(), null_in(v))),
        Value::Object(map) => map.iter().find_map(|(k, v)| below(k, null_in(v))),
        _ => None,
    }
}

fn regime(regime: Regime) -> &'static str {
    match regime {
        Regime::Coverage => "coverage: tokens that no sample has as its informative one",
        Regime::Memory => "memory: crosstalk of the stored facts",
        Regime::GradientNoise => "gradient noise: sequence noise in both steps",
        Regime::Cross => "cross: label imbalance times sequence noise",
        Regime::MeanBias => "mean bias: label imbalance times the mean embedding",
        Regime::Trigger => "trigger: tokens that resemble the trigger",
    }
}

/// A size with as many digits as mean something.
fn size(x: f64) -> String {
    if !(0.01..1e7).contains(&x) {
        format!("{x:.2e}")
    } else if x >= 100.0 {
        format!("{x:.0}")
    } else {
        format!("{x:.2}")
    }
}

fn text(p: &Prediction, notes: &[String]) -> String {
    let mut out = format!("{}\n", simulate::sizes(&p.setting));
    let attention = match p.setting.attention {
        Attention::Argmax => "argmax, all weight on the largest score".to_owned(),
        Attention::Strength(g) => format!("softmax of strength G = {}", size(g)),
    };
    let window = if p.verified_window.inside {
        "inside the box of sizes that simulation has sampled".to_owned()
    } else {
        format!("outside: {}", p.verified_window.reasons.join("; "))
    };
    let _ = writeln!(out, "attention        {attention}");
    let _ = writeln!(out, "binds            {}", regime(p.regime));
    let _ = writeln!(out, "verified window  {window}\n");

    let mut lines = vec![("attention, fresh sequences", p.attention_accuracy)];
    if p.setting.samples != Samples::Infinite {
        lines.push(("attention, training batch", p.train_attention_accuracy));
    }
    if let AttentionKind::Strength { weight, .. } = p.attention {
        lines.push(("attention weight, fresh sequences", weight));
    }
    lines.extend([
        ("recall", p.recall_accuracy),
        ("end to end", p.accuracy),
        ("signal T / S0", p.signal),
        ("spread / S0", p.spread),
    ]);
    if let Some(one_step) = p.one_step_accuracy {
        lines.insert(lines.len() - 2, ("one step", one_step));
    }
    for (name, value) in lines {
        let _ = writeln!(out, "{name:36} {value:>10.4}");
    }
    let mut noise: Vec<_> = p.noise.iter().collect();
    noise.sort_by(|a, b| b.relative_sd.total_cmp(&a.relative_sd));
    for term in noise {
        let mark = if term.name == p.dominant_term {
            "  <- dominant"
        } else {
            ""
        };
        let name = format!("  noise: {}", term.name.replace('_', " "));
        let _ = writeln!(out, "{name:36} {:>10.4}{mark}", term.relative_sd);
    }
    if let Some(thresholds) = &p.thresholds {
        thresholds_text(&mut out, p.level, thresholds);
    }
    if let Some(bounds) = &p.lower_bound {
        bounds_text(&mut out, p.level, bounds);
        if let Some(decoders) = &p.decoders {
            decoders_text(&mut out, p.level, decoders, bounds);
        }
    }
    for absent in &p.not_predicted {
        let _ = writeln!(out, "\nnot predicted: {}: {}", absent.key, absent.reason);
    }
    let _ = writeln!(out, "\nformulas: {}", p.formulas.join(", "));
    for note in notes {
        let _ = writeln!(out, "note: {note}");
    }
    out
}

fn thresholds_text(out: &mut String, level: f64, t: &Thresholds) {
    let _ = writeln!(
        out,
        "\n{:36} {:>12} {:>12}",
        format!("thresholds at accuracy {level}"),
        "finite size",
        "asymptotic"
    );
    let sizes: [(&str, &ByQuantity); 4] = [
        ("samples N*", &t.samples),
        ("dimension d*", &t.dim),
        ("length L*", &t.len),
        ("vocabulary V*", &t.vocab),
    ];
    let mut reasons: Vec<&str> = Vec::new();
    for (size_name, by) in sizes {
        for (name, pair) in [
            ("attention", &by.attention),
            ("recall", &by.recall),
            ("end to end", &by.accuracy),
        ] {
            let show = |t: &Threshold| match t.value() {
                Some(x) => size(x),
                None => "-".to_owned(),
            };
            let row = format!("  {size_name}, {name}");
            let _ = write!(
                out,
                "{row:36} {:>12} {:>12}",
                show(&pair.finite_size),
                show(&pair.asymptotic)
            );
            for t in [&pair.finite_size, &pair.asymptotic] {
                if let Threshold::Unreachable { reason } = t {
                    let number = reasons.iter().position(|r| r == reason).unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                    let _ = write!(out, "  ({})", number + 1);
                }
            }
            out.push('\n');
        }
    }
    for (i, reason) in reasons.iter().enumerate() {
        let _ = writeln!(out, "  ({}) {reason}", i + 1);
    }
}

fn bounds_text(out: &mut String, level: f64, b: &LowerBounds) {
    let _ = writeln!(
        out,
        "\nlower bounds, expected accuracy {level} from the first gradient (training that reads the batch again is not bound)"
    );
    for (name, threshold) in [
        ("samples, at least", &b.samples),
        ("dimension, at least", &b.dim),
        ("vocabulary, at most", &b.vocab),
    ] {
        let name = format!("  {name}");
        let _ = match threshold {
            lower_bound::Threshold::At(x) => writeln!(
                out,
                "{name:36} {:>12}  {}, {}",
                size(x.value),
                word(&x.binding),
                word(&x.assumption)
            ),
            lower_bound::Threshold::Trivial => writeln!(out, "{name:36} {:>12}  {TRIVIAL}", "-"),
            lower_bound::Threshold::Absent { reason } => {
                writeln!(out, "{name:36} {:>12}  {}", "-", absence(*reason))
            }
        };
    }
    let a = &b.accuracy_upper_bound;
    let _ = writeln!(
        out,
        "{:36} {:>12.4}  {}, {}",
        "  accuracy, at most",
        a.accuracy,
        word(&a.binding),
        word(&a.assumption)
    );
}

/// Decoders beside the bound on all of them.
fn decoders_text(out: &mut String, level: f64, decoders: &Decoders, bounds: &LowerBounds) {
    let _ = writeln!(
        out,
        "\n{:36} {:>12} {:>12} {:>12}",
        "decoders of the first gradient",
        "accuracy",
        format!("N at {level}"),
        "over bound"
    );
    let least = match &bounds.samples {
        lower_bound::Threshold::At(x) => Some(x.value),
        _ => None,
    };
    for (name, decoder) in [
        ("matched filter", &decoders.matched_filter),
        ("whitened", &decoders.whitened),
    ] {
        let samples = decoder.samples.samples();
        let show = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), size);
        let why = match decoder.samples {
            OneStepThreshold::At { .. } => String::new(),
            OneStepThreshold::Trivial => "  one sample suffices".to_owned(),
            OneStepThreshold::CapacityExceeded { ceiling } => {
                format!("  with infinite data it reaches {ceiling:.4}")
            }
            OneStepThreshold::BeyondRange { reached } => {
                format!("  with 2^40 samples it reaches {reached:.4}")
            }
            OneStepThreshold::BadLevel => format!("  {}", absence(Absence::BadTarget)),
        };
        let _ = writeln!(
            out,
            "{:36} {:>12.4} {:>12} {:>12}{why}",
            format!("  {name}"),
            decoder.accuracy,
            show(samples),
            show(samples.zip(least).map(|(n, least)| n / least)),
        );
    }
}

/// The name of a variant, as in JSON.
fn word(variant: &impl serde::Serialize) -> String {
    let value = json!(variant);
    let name = value.as_str().or_else(|| value["kind"].as_str());
    name.unwrap_or_default().replace('-', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_found_by_their_path() {
        assert_eq!(null_in(&json!({"a": [1, {"b": null}]})).unwrap(), "a.1.b");
        assert_eq!(null_in(&json!({"a": [1, "null", 2.5]})), None);
    }

    #[test]
    fn sizes_keep_three_digits() {
        assert_eq!(size(1234.5), "1234");
        assert_eq!(size(12.345), "12.35");
        assert_eq!(size(3e9), "3.00e9");
        assert_eq!(size(0.0), "0.00e0");
    }
}
