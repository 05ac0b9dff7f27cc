//! The Markdown report.

use std::fmt::Write as _;

use recall_theory::registry;

use super::text::{describe_verdict, verdict_rows};
use super::{Judged, statement};
use crate::experiment::{ExponentRow, Findings, FittedExponent, Table};
use crate::rng::RNG_SCHEME;
use crate::spec::{Experiment, Kind, Profile};
use crate::stats::verdict::InconclusiveReason;
use crate::stats::verdict::Verdict;

/// The whole report.
pub(super) fn report(judged: &Judged) -> String {
    let mut out = String::new();
    head(&mut out, judged);
    verdicts(&mut out, judged);
    misfits(&mut out, judged);
    exponents(&mut out, judged);
    for (experiment, findings) in &judged.experiments {
        section(&mut out, judged, experiment, findings);
    }
    looks(&mut out, judged);
    claims(&mut out, judged);
    formulas(&mut out, judged);
    out
}

fn head(out: &mut String, judged: &Judged) {
    let tally = judged.tally();
    let trials = judged.trials;
    let _ = writeln!(
        out,
        "# Theory beside simulation: the `{}` run\n\n\
         One-layer transformer, attention only or with a fixed random hidden layer, random non-orthogonal embeddings, three steps of empirical gradient descent from zero in the small-step limit, on the task of finding one informative token among $L$ and recalling its label out of $V$.\n\n\
         **{} claims supported, {} refuted, {} inconclusive**, judged as one family on {trials} trials in {} experiments.\n\n\
         > Every formula here is our own derivation, checked by the simulation reported here. The paper that poses the problem, *Learning to Recall with Transformers Beyond Orthogonal Embeddings* (arXiv 2603.15923), is known to us by its abstract only; nothing here is to be read as its statement or its constants.\n\n\
         How to read it: a trial is one seed with its own embeddings, permutation and data; ± is a standard error over seeds (or over points, where said). A claim is *supported* when an equivalence test places the deviation inside the margin that stands in the experiment's file, *refuted* when it places it outside, and *inconclusive* otherwise; p-values are adjusted by Holm's method over all claims of this report, separately for support and refutation, at level {}.{} Machine, commit and time are in `provenance.json`, records in `measurements.jsonl` (random-number scheme {RNG_SCHEME}), critical values in `thresholds.csv`, cells in `cells.csv`, fits and verdicts in `fits.json` and `verdicts.json`.\n",
        judged.profile.name(),
        tally.supported,
        tally.refuted,
        tally.inconclusive,
        judged.experiments.len(),
        judged.policy.alpha,
        match judged.profile {
            Profile::Quick => "",
            Profile::Full =>
                " Designs, margins and formulas stood in the repository when this run began, on seeds that earlier looks had not used; where an earlier look changed a design, its paragraph says so.",
        },
    );
    if judged.profile == Profile::Quick {
        out.push_str("This is the quick profile: small designs, for a first look and for CI. The full profile is the one to cite.\n\n");
    }
}

/// Running text with starred symbols as formulas, so that no star opens emphasis.
fn prose(text: &str) -> String {
    let mut out = text.to_owned();
    for (plain, maths) in [
        ("N*", "$N^*$"),
        ("d*", "$d^*$"),
        ("m*", "$m^*$"),
        ("V*", "$V^*$"),
    ] {
        out = out.replace(plain, maths);
    }
    out
}

fn row(out: &mut String, cells: &[String]) {
    out.push('|');
    for c in cells {
        let _ = write!(out, " {} |", c.replace('|', "\\|"));
    }
    out.push('\n');
}

fn table(out: &mut String, t: &Table) {
    let _ = writeln!(out, "{}\n", prose(&t.caption));
    row(out, &t.header);
    row(out, &vec!["---".to_owned(); t.header.len()]);
    for r in &t.rows {
        row(out, r);
    }
    out.push('\n');
}

fn verdict_table(out: &mut String, rows: Vec<[String; 7]>) {
    let t = Table {
        caption: "Estimates are ± one standard error. *Detectable*: the largest true deviation that would still be supported / the smallest that would be refuted, each with 80 % probability at the strictest level of Holm's procedure (for refutation divided by the number of comparisons of the claim), given the standard error reached.".into(),
        header: ["claim", "verdict", "measured", "target", "margin", "adjusted p: support / refute", "detectable"]
            .map(String::from)
            .to_vec(),
        rows: rows.into_iter().map(|r| r.to_vec()).collect(),
    };
    table(out, &t);
}

fn verdicts(out: &mut String, judged: &Judged) {
    out.push_str("## Verdicts\n\n");
    verdict_table(
        out,
        judged
            .pairs()
            .flat_map(|(v, c)| verdict_rows(v, &c.evidence))
            .collect(),
    );
    out.push_str("What the claims say:\n\n");
    for v in &judged.verdicts {
        let _ = writeln!(out, "- `{}`: {}", v.id, statement(judged, &v.id));
    }
    out.push('\n');
}

fn misfits(out: &mut String, judged: &Judged) {
    out.push_str("## What does not fit\n\n");
    let mut any = false;
    for v in &judged.verdicts {
        match &v.verdict {
            Verdict::Supported => {}
            other => {
                any = true;
                let hint = match other {
                    Verdict::Inconclusive {
                        reason: InconclusiveReason::LowPower { .. },
                    } => " A larger design would decide it.",
                    _ => "",
                };
                let _ = writeln!(out, "- `{}`: {}.{hint}", v.id, describe_verdict(other));
            }
        }
    }
    for (experiment, findings) in &judged.experiments {
        for m in &findings.misfits {
            any = true;
            let _ = writeln!(out, "- {}: {}", experiment.id, prose(m));
        }
    }
    if !any {
        out.push_str("Every claim is supported, no point is censored, and no single cell or point deviates by more than three standard errors and its margin.\n");
    }
    out.push('\n');
}

/// Fitted laws of all experiments in one table, contrasts first.
fn exponents(out: &mut String, judged: &Judged) {
    let cells = |what: &str, e: &Experiment, row: &ExponentRow| {
        let list = |f: &dyn Fn(&FittedExponent) -> Option<String>| {
            let parts: Vec<String> = row
                .exponents
                .iter()
                .filter_map(|x| Some(format!("{} {}", x.name, f(x)?)))
                .collect();
            if parts.is_empty() {
                "—".to_owned()
            } else {
                parts.join(", ")
            }
        };
        vec![
            what.to_owned(),
            prose(&row.what),
            list(&|x| {
                Some(format!(
                    "{:+.3} ± {:.3}",
                    x.measured.value, x.measured.standard_error
                ))
            }),
            list(&|x| Some(format!("{:+.3}", x.formula))),
            list(&|x| x.asymptotic.map(|a| format!("{a:+.2}"))),
            format!(
                "{:.3} ± {:.3}",
                row.ratio.value.exp(),
                row.ratio.value.exp() * row.ratio.standard_error
            ),
            row.points.to_string(),
            format!("[{}](#{})", e.id, anchor(&e.title)),
        ]
    };
    let header = |first: &str| {
        [
            first,
            "of",
            "exponents measured",
            "formula, same design",
            "asymptotic law",
            "measured / formula",
            "points",
            "experiment",
        ]
        .map(String::from)
        .to_vec()
    };
    let rows = |contrasts: bool| -> Vec<Vec<String>> {
        judged
            .experiments
            .iter()
            .filter(|(e, _)| e.contrast.is_some() == contrasts)
            .flat_map(|(e, f)| f.exponents.iter().map(move |row| (e, row)))
            .map(|(e, row)| cells(e.contrast.as_deref().unwrap_or(&e.title), e, row))
            .collect()
    };
    for (title, caption, first, rows) in [
        (
            "Contrasts",
            "What changes when one thing is changed: exponents of critical values, ± one standard error. Each row has its figure in its own section.",
            "variant",
            rows(true),
        ),
        ("Exponents", "The other fitted laws.", "law", rows(false)),
    ] {
        if rows.is_empty() {
            continue;
        }
        let _ = writeln!(out, "## {title}\n");
        table(
            out,
            &Table {
                caption: caption.to_owned(),
                header: header(first),
                rows,
            },
        );
    }
}

/// The anchor that code hosts give a heading.
fn anchor(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn section(out: &mut String, judged: &Judged, experiment: &Experiment, findings: &Findings) {
    let _ = writeln!(
        out,
        "## {}\n\n{}\n",
        experiment.title,
        experiment.rationale.trim()
    );
    let design = experiment.design(judged.profile);
    if let Some(d) = design {
        let points = d.settings().count();
        let what = match experiment.kind {
            Kind::Threshold { .. } => "points of the design, each searched adaptively",
            _ => "cells",
        };
        let _ = writeln!(
            out,
            "Design: {points} {what}, {} trials per {}, {} trials in all. File: `experiments/{}.toml`; claim `{}`.\n",
            d.seeds,
            if matches!(experiment.kind, Kind::Threshold { .. }) {
                "level"
            } else {
                "cell"
            },
            findings.trials,
            experiment.id,
            experiment.claim,
        );
    }
    for f in &findings.figures {
        let _ = writeln!(
            out,
            "![{}](figures/{}.svg)\n\n*{}* ([PNG](figures/{}.png))\n",
            experiment.title,
            f.stem,
            prose(&f.caption),
            f.stem
        );
    }
    for n in &findings.notes {
        let _ = writeln!(out, "- {}", prose(n));
    }
    if !findings.notes.is_empty() {
        out.push('\n');
    }
    verdict_table(
        out,
        judged
            .pairs_of(findings)
            .flat_map(|(v, c)| verdict_rows(v, &c.evidence))
            .collect(),
    );
    for t in &findings.tables {
        if t.rows.len() > 12 {
            let _ = writeln!(
                out,
                "<details><summary>Table of {} rows</summary>\n",
                t.rows.len()
            );
            table(out, t);
            out.push_str("</details>\n\n");
        } else {
            table(out, t);
        }
    }
}

fn looks(out: &mut String, judged: &Judged) {
    out.push_str("## What was looked at\n\n");
    let _ = writeln!(
        out,
        "Family of {} claims. Ways in which the data were split or read, by experiment (quantities and windows; the windows look at predictions only and stand in the files):\n",
        judged.claims.len()
    );
    for (e, f) in &judged.experiments {
        let censored = f.thresholds.iter().filter(|t| t.measured.is_none()).count();
        let _ = writeln!(
            out,
            "- {}: {} look{}, {} critical values ({censored} censored), {} cells.",
            e.id,
            f.looks,
            if f.looks == 1 { "" } else { "s" },
            f.thresholds.len(),
            f.cells.len()
        );
    }
    out.push('\n');
}

/// The registry's entries behind the verdicts.
fn claims(out: &mut String, judged: &Judged) {
    let experiments: Vec<Experiment> = judged.experiments.iter().map(|e| e.0.clone()).collect();
    let _ = writeln!(
        out,
        "## Claims\n\nThe registry's entries that this run tests, with the margins and their reasons as they stand in the experiment files.\n\n{}",
        crate::claims::table(&experiments, "../../theory/src")
    );
}

fn formulas(out: &mut String, judged: &Judged) {
    out.push_str(
        "## Formulas used\n\nEach with its derivation in `theory/src/`. Ours, not the paper's.\n\n",
    );
    let mut ids: Vec<&str> = Vec::new();
    for (e, _) in &judged.experiments {
        if let Some(claim) = registry::claim(&e.claim) {
            for id in claim.formula_ids {
                if !ids.contains(id) {
                    ids.push(id);
                }
            }
        }
    }
    for id in ids {
        if let Some(f) = registry::formula(id) {
            let _ = writeln!(
                out,
                "- `{}` — {}: ${}$. Assumes {}; {}. Derivation: [`{}`](../../theory/src/{}).",
                f.id, f.title, f.latex, f.assumptions, f.regime, f.note, f.note
            );
        }
    }
}
