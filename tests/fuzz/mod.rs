//! A mutational fuzzer for everything that the program reads: experiment files, replay cases,
//! records, journals, baselines and the command line. It runs on the stable toolchain, and what it
//! does follows from its seed.
//!
//! Guidance without instrumentation: an input that draws an answer not seen before (numbers and
//! quoted words left out) joins the pool that further inputs are made from.
//!
//! Shared by the test `fuzz` (short) and the example `fuzz_inputs` (as long as wanted).

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use recall_capacity::baseline::{Baseline, drift};
use recall_capacity::cli::{Cli, Command, Failure, predict};
use recall_capacity::replay::{Case, compare, replay};
use recall_capacity::spec::{Experiment, Profile};
use recall_capacity::store::{JOURNAL, Store};
use recall_theory::Setting;

/// What is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// TOML of an experiment; what is accepted is expanded into jobs.
    Experiment,
    /// JSON of a replay case; what is accepted and small is replayed and compared.
    Replay,
    /// Lines of a final file.
    Records,
    /// Lines of a journal.
    Journal,
    /// A baseline; what is accepted is compared with itself and with the corpus.
    Baseline,
    /// Arguments, one a line; now and then what is accepted is predicted.
    Arguments,
}

/// All targets with their share of the executions, in tenths.
pub(crate) const TARGETS: [(Target, u64); 6] = [
    (Target::Experiment, 2),
    (Target::Replay, 3),
    (Target::Records, 1),
    (Target::Journal, 1),
    (Target::Baseline, 1),
    (Target::Arguments, 2),
];

impl Target {
    /// Name of its directory in the corpus.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Target::Experiment => "experiment",
            Target::Replay => "replay",
            Target::Records => "records",
            Target::Journal => "journal",
            Target::Baseline => "baseline",
            Target::Arguments => "arguments",
        }
    }
}

/// What came of a run of the fuzzer.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Inputs tried.
    pub executions: u64,
    /// Distinct answers.
    pub answers: usize,
    /// Inputs that were accepted.
    pub accepted: u64,
    /// Inputs that made the program panic, with the message.
    pub panics: Vec<(String, String)>,
}

/// Most inputs in the pool.
const POOL: usize = 2000;
/// Longest input.
const LONGEST: usize = 6000;

const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "2",
    "3",
    "-1",
    "-0.0",
    "0.5",
    "1.5",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e-320",
    "1e308",
    "1e309",
    "-1e308",
    "nan",
    "inf",
    "0x10",
];
const TOKENS: [&str; 20] = [
    "null",
    "true",
    "false",
    "\"\"",
    "[]",
    "{}",
    "[[]]",
    "\"infinite\"",
    "\n",
    "\r\n",
    "\t",
    ",",
    ":",
    "=",
    "#",
    "\u{0}",
    "\u{feff}",
    "𝔘",
    "--",
    "[[[[[[[[[[[[[[[[",
];

struct Fuzzer {
    target: Target,
    rng: ChaCha8Rng,
    pool: Vec<Vec<u8>>,
    /// How many of them are the committed ones.
    corpus: usize,
    words: Vec<Vec<u8>>,
    seen: HashSet<u64>,
    scratch: PathBuf,
    first: Option<Baseline>,
}

/// Feeds one target.
///
/// # Errors
/// If the corpus or the scratch directory cannot be read or written.
pub(crate) fn fuzz(
    target: Target,
    executions: u64,
    seed: u64,
    scratch: &Path,
) -> std::io::Result<Findings> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target.name());
    let mut files: Vec<PathBuf> = std::fs::read_dir(corpus)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let pool: Vec<Vec<u8>> = files.iter().map(std::fs::read).collect::<Result<_, _>>()?;
    let mut words: Vec<Vec<u8>> = pool
        .iter()
        .flat_map(|text| text.split(|b| !b.is_ascii_alphanumeric() && *b != b'-' && *b != b'_'))
        .filter(|w| w.len() > 1 && w.len() < 30)
        .map(<[u8]>::to_vec)
        .collect();
    words.sort();
    words.dedup();
    let first = pool
        .first()
        .and_then(|text| Baseline::parse(std::str::from_utf8(text).ok()?).ok());
    let mut fuzzer = Fuzzer {
        target,
        rng: ChaCha8Rng::seed_from_u64(seed),
        corpus: pool.len(),
        pool,
        words,
        seen: HashSet::new(),
        scratch: scratch.to_owned(),
        first,
    };
    let mut findings = Findings::default();
    for i in 0..executions {
        // The corpus first, as it is.
        let input = match usize::try_from(i).ok().and_then(|i| fuzzer.pool.get(i)) {
            Some(whole) if i < files.len() as u64 => whole.clone(),
            _ => fuzzer.mutated(),
        };
        let answer = catch_unwind(AssertUnwindSafe(|| fuzzer.feed(&input, i)));
        findings.executions += 1;
        match answer {
            Ok(answer) => {
                findings.accepted += u64::from(answer.is_ok());
                let text = answer.unwrap_or_else(|e| e);
                if fuzzer.seen.insert(skeleton(&text)) && fuzzer.pool.len() < POOL {
                    fuzzer.pool.push(input);
                }
            }
            Err(payload) => {
                let message = payload
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                    .unwrap_or_default();
                if fuzzer.seen.insert(skeleton(&message)) {
                    let input = String::from_utf8_lossy(&input).into_owned();
                    findings.panics.push((message, input));
                }
            }
        }
    }
    findings.answers = fuzzer.seen.len();
    Ok(findings)
}

/// Hash of an answer without its numbers and quoted words.
fn skeleton(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut quote = None;
    // The last line says what is wrong; those above may quote the input.
    for c in text.trim_end().lines().last().unwrap_or_default().chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '`' | '"' | '\'') => quote = Some(c),
            (None, c) if c.is_ascii_digit() => {}
            (None, c) => c.hash(&mut hasher),
        }
    }
    hasher.finish()
}

impl Fuzzer {
    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }

    fn mutated(&mut self) -> Vec<u8> {
        // Every other input descends from the corpus itself, so that many are nearly right.
        let among = if self.below(2) == 0 {
            self.corpus
        } else {
            self.pool.len()
        };
        let at = self.below(among);
        let mut text = self.pool[at].clone();
        for _ in 0..=self.below(3) {
            self.mutate(&mut text);
        }
        text.truncate(LONGEST);
        text
    }

    fn mutate(&mut self, text: &mut Vec<u8>) {
        let at = self.below(text.len() + 1);
        match self.below(10) {
            0 => {
                let bit = self.below(8);
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            1 => {
                let end = (at + self.below(40)).min(text.len());
                text.drain(at..end);
            }
            2 => {
                let end = (at + self.below(80)).min(text.len());
                let copy = text[at..end].to_vec();
                text.splice(at..at, copy);
            }
            3 => {
                let token = TOKENS[self.below(TOKENS.len())];
                text.splice(at..at, token.bytes());
            }
            4 => {
                let other = self.below(self.pool.len());
                let from = self.below(self.pool[other].len() + 1);
                let mut tail = self.pool[other][from..].to_vec();
                text.truncate(at);
                text.append(&mut tail);
            }
            5 => text.truncate(at),
            6 | 7 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                replace_run(
                    text,
                    at,
                    |b| b.is_ascii_digit() || b".-+eE".contains(&b),
                    number.as_bytes(),
                );
            }
            _ => {
                let word = self.below(self.words.len());
                if let Some(word) = self.words.get(word).cloned() {
                    let part = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                    replace_run(text, at, part, &word);
                }
            }
        }
    }

    /// The answer to the input of a number: `Ok` if it is accepted, `Err` if it is refused.
    fn feed(&self, input: &[u8], number: u64) -> Result<String, String> {
        let text = || std::str::from_utf8(input).map_err(|_| "not UTF-8".to_owned());
        match self.target {
            Target::Experiment => {
                let experiment =
                    Experiment::parse(Path::new("x.toml"), text()?).map_err(|e| e.to_string())?;
                for design in [Profile::Quick, Profile::Full]
                    .into_iter()
                    .filter_map(|p| experiment.design(p))
                {
                    for block in &design.blocks {
                        for setting in block.settings().map_err(|e| e.to_string())?.iter().take(9) {
                            let job = design.job(setting, design.seeds - 1);
                            let _ = (job.key(), job.stream_key(), job.cost());
                            let _ = job.validate();
                        }
                    }
                }
                Ok("an experiment".to_owned())
            }
            Target::Replay => {
                let case = Case::from_json(text()?).map_err(|e| e.to_string())?;
                let size = case.vocab * case.dim * case.len * case.samples;
                if size > 500 || case.steps > 20 {
                    return Ok("a large case".to_owned());
                }
                let outputs = replay(&case).map_err(|e| e.to_string())?;
                if let Some(reference) = &case.reference {
                    let deviations = compare(&outputs, reference).map_err(|e| e.to_string())?;
                    return Ok(format!("{} deviations", deviations.len()));
                }
                Ok("outputs".to_owned())
            }
            Target::Records => {
                let path = self.scratch.join("records.jsonl");
                std::fs::write(&path, input).map_err(|e| e.to_string())?;
                let store = Store::read_only(&path).map_err(|e| e.to_string())?;
                Ok(format!("{:?}", store.aside().notes()))
            }
            Target::Journal => {
                let dir = self.scratch.join("run");
                let _ = std::fs::create_dir(&dir);
                std::fs::write(dir.join(JOURNAL), input).map_err(|e| e.to_string())?;
                let store = Store::open(&dir).map_err(|e| e.to_string())?;
                if store.is_empty() {
                    return Err(store.aside().notes().join("; "));
                }
                Ok(store.aside().notes().join("; "))
            }
            Target::Baseline => {
                let baseline = Baseline::parse(text()?)?;
                let same = drift::compare(&baseline, &baseline).map_err(|e| e.to_string())?;
                assert!(!same.found(), "a baseline drifts from itself");
                let first = self.first.as_ref().unwrap_or(&baseline);
                let drift = drift::compare(first, &baseline).map_err(|e| e.to_string())?;
                Ok(format!("{} {}", drift.found(), drift.not_compared.len()))
            }
            Target::Arguments => {
                let lines = text()?.lines();
                let cli = Cli::try_parse_from(std::iter::once("recall").chain(lines))
                    .map_err(|e| e.to_string())?;
                let told = |e: Failure| match e {
                    Failure::Usage(text) | Failure::Error(text) => text,
                };
                match &cli.command {
                    Command::Simulate(args) => args.job(args.seed).map(|_| String::new()),
                    Command::Predict(args) => match args.simulate.setting.setting() {
                        // A prediction takes milliseconds, thresholds and bounds take seconds: not
                        // for every input, and the latter for small sizes only.
                        Ok(setting)
                            if (args.quick && number.is_multiple_of(16))
                                || (number.is_multiple_of(512) && is_small(&setting)) =>
                        {
                            predict::answer(args).map(|_| String::new())
                        }
                        answer => answer.map(|_| String::new()),
                    },
                    _ => Ok(String::new()),
                }
                .map_err(told)
            }
        }
    }
}

/// Sizes at which the searches for thresholds and lower bounds take seconds.
fn is_small(s: &Setting) -> bool {
    let width = s.model.mlp().map_or(1, |mlp| mlp.width);
    s.vocab <= 512
        && s.len <= 512
        && s.dim_in.max(s.dim_out).max(width) <= 512
        && s.samples.as_f64() <= 1e6
}

/// Replaces the run of bytes of a kind that begins at or after a place.
fn replace_run(text: &mut Vec<u8>, at: usize, kind: impl Fn(u8) -> bool, by: &[u8]) {
    let Some(start) = text[at..].iter().position(|b| kind(*b)).map(|i| at + i) else {
        return;
    };
    let end = text[start..]
        .iter()
        .position(|b| !kind(*b))
        .map_or(text.len(), |i| start + i);
    text.splice(start..end, by.iter().copied());
}
