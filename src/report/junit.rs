//! Verdicts and drifts as JUnit XML, which CI services show as tests. No time and no host in it:
//! the same records give the same bytes.

use std::fmt::Write as _;
use std::io;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::Judged;
use super::text::{describe_verdict, verdict_rows};
use crate::baseline::drift::{Drift, Subject};
use crate::stats::verdict::Verdict;

enum Outcome {
    Passed,
    Skipped(String),
    Failed { kind: &'static str, text: String },
}

struct Case {
    class: String,
    name: String,
    outcome: Outcome,
}

/// The document: a suite of claims, and one of comparisons where there is a baseline. An open claim
/// counts as skipped, or as failed under `strict`.
///
/// # Errors
/// Not for writing into memory; whatever the writer says.
pub fn junit(judged: &Judged, drift: Option<&Drift>, strict: bool) -> io::Result<Vec<u8>> {
    let mut suites = vec![("claims", claims(judged, strict))];
    if let Some(drift) = drift {
        suites.push(("baseline", comparisons(drift)));
    }
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all = counts(suites.iter().flat_map(|s| &s.1));
    writer
        .create_element("testsuites")
        .with_attribute(("name", "recall"))
        .with_attributes(all.iter().map(|(k, v)| (*k, v.as_str())))
        .write_inner_content(|w| {
            for (name, cases) in &suites {
                let counts = counts(cases.iter());
                w.create_element("testsuite")
                    .with_attribute(("name", *name))
                    .with_attributes(counts.iter().map(|(k, v)| (*k, v.as_str())))
                    .write_inner_content(|w| cases.iter().try_for_each(|c| write_case(w, c)))?;
            }
            Ok(())
        })?;
    let mut bytes = writer.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

fn counts<'a>(cases: impl Iterator<Item = &'a Case> + Clone) -> [(&'static str, String); 4] {
    let count = |f: fn(&Outcome) -> bool| cases.clone().filter(|c| f(&c.outcome)).count();
    [
        ("tests", count(|_| true).to_string()),
        (
            "failures",
            count(|o| matches!(o, Outcome::Failed { .. })).to_string(),
        ),
        ("errors", "0".to_owned()),
        (
            "skipped",
            count(|o| matches!(o, Outcome::Skipped(_))).to_string(),
        ),
    ]
}

fn write_case(w: &mut Writer<Vec<u8>>, case: &Case) -> io::Result<()> {
    let (class, name) = (legal(&case.class), legal(&case.name));
    let element = w
        .create_element("testcase")
        .with_attribute(("classname", class.as_str()))
        .with_attribute(("name", name.as_str()));
    match &case.outcome {
        Outcome::Passed => element.write_empty().map(|_| ()),
        Outcome::Skipped(why) => element
            .write_inner_content(|w| {
                w.create_element("skipped")
                    .with_attribute(("message", legal(why).as_str()))
                    .write_empty()?;
                Ok(())
            })
            .map(|_| ()),
        Outcome::Failed { kind, text } => element
            .write_inner_content(|w| {
                let text = legal(text);
                let first = text.lines().next().unwrap_or_default();
                w.create_element("failure")
                    .with_attribute(("type", *kind))
                    .with_attribute(("message", first))
                    .write_text_content(BytesText::new(&text))?;
                Ok(())
            })
            .map(|_| ()),
    }
}

/// Characters that XML 1.0 has no way to write are replaced.
fn legal(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => c,
            _ => '\u{fffd}',
        })
        .collect()
}

fn claims(judged: &Judged, strict: bool) -> Vec<Case> {
    judged
        .pairs()
        .map(|(v, c)| {
            let words = describe_verdict(&v.verdict).replace("**", "");
            let mut text = words.clone();
            for [_, _, measured, target, margin, p, detectable] in verdict_rows(v, &c.evidence) {
                let _ = write!(
                    text,
                    "\n{measured}, target {target}, margin {margin}, detectable {detectable}{}",
                    if p.is_empty() {
                        String::new()
                    } else {
                        format!(", adjusted p (support / refute) {p}")
                    }
                );
            }
            let outcome = match (&v.verdict, strict) {
                (Verdict::Supported, _) => Outcome::Passed,
                (Verdict::Refuted, _) => Outcome::Failed {
                    kind: "refuted",
                    text,
                },
                (Verdict::Inconclusive { .. }, true) => Outcome::Failed {
                    kind: "inconclusive",
                    text,
                },
                (Verdict::Inconclusive { .. }, false) => Outcome::Skipped(words),
            };
            let (experiment, part) = v.id.split_once('/').unwrap_or((&v.id, "all cells"));
            Case {
                class: format!("claims.{experiment}"),
                name: part.to_owned(),
                outcome,
            }
        })
        .collect()
}

/// One case for each experiment and kind of number, and one for each changed verdict.
fn comparisons(drift: &Drift) -> Vec<Case> {
    let mut groups: Vec<((&str, Subject), Vec<String>)> = Vec::new();
    for t in &drift.tests {
        let key = (t.experiment.as_str(), t.subject);
        let at = match groups.iter().position(|g| g.0 == key) {
            Some(at) => at,
            None => {
                groups.push((key, Vec::new()));
                groups.len() - 1
            }
        };
        if t.drifted() {
            groups[at].1.push(format!(
                "{}: {} in the baseline, {} now, difference {:+} ± {}, adjusted p {:.2e}",
                t.name, t.before, t.now, t.difference, t.standard_error, t.p_adjusted
            ));
        }
    }
    let mut cases: Vec<Case> = groups
        .into_iter()
        .map(|((experiment, subject), drifted)| Case {
            class: format!("baseline.{experiment}"),
            name: match subject {
                Subject::Cell => "cells",
                Subject::Block => "blocks",
                Subject::Threshold => "thresholds",
                Subject::Exponent => "exponents and constants",
            }
            .to_owned(),
            outcome: if drifted.is_empty() {
                Outcome::Passed
            } else {
                Outcome::Failed {
                    kind: "drift",
                    text: format!("{} drifted\n{}", drifted.len(), drifted.join("\n")),
                }
            },
        })
        .collect();
    cases.extend(drift.verdicts.iter().map(|c| {
        let words = |v: &Option<Verdict>| {
            v.as_ref().map_or_else(
                || "absent".to_owned(),
                |v| describe_verdict(v).replace("**", ""),
            )
        };
        let text = format!("was {}, is {}", words(&c.before), words(&c.now));
        Case {
            class: "baseline.verdicts".to_owned(),
            name: c.claim.clone(),
            outcome: if c.certain() {
                Outcome::Failed {
                    kind: "drift",
                    text: format!("{text}, on the same records"),
                }
            } else {
                Outcome::Skipped(text)
            },
        }
    }));
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_illegal_characters_are_replaced() {
        let mut w = Writer::new(Vec::new());
        write_case(
            &mut w,
            &Case {
                class: "a\"<b>".into(),
                name: "x & y\u{1}".into(),
                outcome: Outcome::Failed {
                    kind: "drift",
                    text: "1 < 2 ]]>\nsecond".into(),
                },
            },
        )
        .unwrap();
        let text = String::from_utf8(w.into_inner()).unwrap();
        assert_eq!(
            text,
            "<testcase classname=\"a&quot;&lt;b&gt;\" name=\"x &amp; y\u{fffd}\"><failure type=\"drift\" message=\"1 &lt; 2 ]]&gt;\">1 &lt; 2 ]]&gt;\nsecond</failure></testcase>"
        );
    }
}
