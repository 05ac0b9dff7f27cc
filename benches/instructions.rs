//! Counts the instructions of kernels and compares them with the counts kept in
//! `instructions.json`, so that a kernel does not become slower unnoticed.
//!
//! ```sh
//! cargo bench --bench instructions               # compare; exit 1 above 3 % more
//! cargo bench --bench instructions -- --refresh  # write the counts of this tree
//! ```
//!
//! Valgrind's callgrind counts; times would say more about the neighbours on the machine. It
//! emulates no AVX-512, so code that chooses its kernel at run time takes the AVX2 or portable path:
//! *that* path is counted, and what the wide kernels cost is seen by `kernels` and `roofline` alone.
//!
//! A kernel runs twice and four times in processes of their own, and half of the difference is its
//! count: start, set-up and the first fill of the allocator cancel.
//!
//! Counts belong to a compiler, a C library and the vector instructions that valgrind emulates. Where
//! these are others than in the baseline, the table is printed and nothing is judged (`--strict` makes
//! that an error).
//!
//! Exit codes: 0 not more than 3 % above the baseline, or not judged; 1 above; 2 cannot count.
#![allow(missing_docs)]

mod shared;

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use recall_capacity::descent::exact::{self, Problem};
use recall_capacity::job::Precision;
use recall_capacity::linalg::gemm;
use recall_capacity::rng::Purpose;
use recall_capacity::stats::probit::{ProbitOptions, probit_threshold};
use recall_capacity::stats::regression::{RegressionOptions, fit_loglog};
use recall_capacity::task::{Batch, Permutation};
use recall_theory::{Labels, Setting};
use serde::{Deserialize, Serialize};
use shared::{Data, FACTORS, RATES, curve, filled, job, key, law};

/// Most that a count may exceed its baseline by.
const THRESHOLD: f64 = 0.03;

type Failure = Box<dyn Error>;

/// Work that can be run any number of times.
type Work = Box<dyn Fn()>;

/// What is counted: name, what it does, and the work, prepared for being run any number of times.
struct Kernel {
    name: &'static str,
    what: &'static str,
    prepare: fn() -> Result<Work, Failure>,
}

const KERNELS: [Kernel; 7] = [
    Kernel {
        name: "draw",
        what: "a batch: V 1024, L 64, N 1024",
        prepare: || {
            let permutation = Permutation::random(1024, &mut key().stream(Purpose::Permutation));
            Ok(Box::new(move || {
                let mut rng = key().stream(Purpose::Train);
                black_box(Batch::draw(&mut rng, &permutation, 64, 1024, Labels::Iid));
            }))
        },
    },
    Kernel {
        name: "histogram",
        what: "step 1 of `exact`, mostly counting by label: V 256, d 16, L 64, N 4096, f32",
        prepare: || {
            let data = Data::<f32>::draw(Setting::new(256, 16, 64, 4096), 1);
            Ok(Box::new(move || {
                if let Ok(p) = Problem::new(&data.embeddings, &data.query, &data.train, false) {
                    black_box(exact::step_one(&p, RATES.eta));
                }
            }))
        },
    },
    Kernel {
        name: "product",
        what: "dense product of 128 x 512 by 512 x 128, f32",
        prepare: || {
            let (a, b) = (filled::<f32>(128, 512), filled::<f32>(512, 128));
            Ok(Box::new(move || {
                let mut c = vec![0.0; 128 * 128];
                gemm(1.0, a.view(), b.view(), 0.0, &mut c);
                black_box(c);
            }))
        },
    },
    Kernel {
        name: "early",
        what: "a whole trial: V 256, d 32, L 16, N 2048, f32",
        prepare: || {
            let job = job(&Setting::new(256, 32, 16, 2048), false, Precision::F32);
            job.run()?;
            Ok(Box::new(move || {
                let _ = black_box(job.run());
            }))
        },
    },
    Kernel {
        name: "exact-step",
        what: "step 2 of `exact`: V 256, d 32, L 16, N 512, f32",
        prepare: || {
            let data = Data::<f32>::draw(Setting::new(256, 32, 16, 512), 1);
            let problem = Problem::new(&data.embeddings, &data.query, &data.train, false)?;
            let first = exact::step_one(&problem, RATES.eta);
            Ok(Box::new(move || {
                if let Ok(p) = Problem::new(&data.embeddings, &data.query, &data.train, false) {
                    black_box(exact::step_two(&p, &first, RATES.gamma_w));
                }
            }))
        },
    },
    Kernel {
        name: "probit",
        what: "threshold of a curve at 9 sizes, 20 seeds",
        prepare: || {
            let (trials, options) = (curve(), ProbitOptions::default());
            probit_threshold(&trials, &options)?;
            Ok(Box::new(move || {
                let _ = black_box(probit_threshold(&trials, &options));
            }))
        },
    },
    Kernel {
        name: "regression",
        what: "power law in 3 factors at 60 points",
        prepare: || {
            let (points, options) = (law(), RegressionOptions::default());
            fit_loglog(&FACTORS, &points, &options)?;
            Ok(Box::new(move || {
                let _ = black_box(fit_loglog(&FACTORS, &points, &options));
            }))
        },
    },
];

/// What a count depends on besides the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Environment {
    /// `rustc --version`.
    rustc: String,
    /// Architecture and system.
    target: String,
    /// Vector instructions that the counted program sees.
    vectors: String,
    /// C library: its `memcpy` and `exp` are counted too.
    libc: String,
    /// `CARGO_INCREMENTAL` of the build: incremental compilation divides the code otherwise, which
    /// moves counts by up to a tenth.
    incremental: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    environment: Environment,
    /// Instructions by kernel.
    instructions: BTreeMap<String, u64>,
}

fn baseline_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json")
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--run", name, times] => run(name, times).map(|()| true),
        ["--vectors"] => {
            println!("{}", vectors());
            Ok(true)
        }
        // `cargo bench` adds `--bench`.
        ["--refresh", rest @ ..] if rest.iter().all(|w| *w == "--bench") => {
            refresh().map(|()| true)
        }
        ["--strict", rest @ ..] if rest.iter().all(|w| *w == "--bench") => compare(true),
        rest if rest.iter().all(|w| *w == "--bench") => compare(false),
        _ => Err("usage: cargo bench --bench instructions [-- --refresh | --strict]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}

/// Runs one kernel a number of times, to be counted from outside.
fn run(name: &str, times: &str) -> Result<(), Failure> {
    let kernel = KERNELS
        .iter()
        .find(|k| k.name == name)
        .ok_or_else(|| format!("no kernel is called {name}"))?;
    let work = (kernel.prepare)()?;
    for _ in 0..times.parse()? {
        work();
    }
    Ok(())
}

fn vectors() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let seen = [
            (is_x86_feature_detected!("avx512f"), "avx512f"),
            (is_x86_feature_detected!("avx2"), "avx2"),
            (is_x86_feature_detected!("fma"), "fma"),
            (is_x86_feature_detected!("sse4.1"), "sse4.1"),
        ];
        let names: Vec<&str> = seen.iter().filter(|s| s.0).map(|s| s.1).collect();
        names.join(" ")
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH.to_owned()
}

/// Standard output and error of this program under valgrind.
fn under_valgrind(arguments: &[&str]) -> Result<(String, String), Failure> {
    let program = std::env::current_exe()?;
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(arguments)
        // The environment lies on the stack and moves it.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(|e| {
            format!(
                "cannot start valgrind: {e}; install it (Debian: apt-get install valgrind), or \
                 leave the count of instructions out and say so"
            )
        })?;
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    if !done.status.success() {
        return Err(format!("valgrind {}: {errors}", done.status).into());
    }
    Ok((String::from_utf8_lossy(&done.stdout).into_owned(), errors))
}

fn collected(name: &str, times: &str) -> Result<u64, Failure> {
    let (_, report) = under_valgrind(&["--run", name, times])?;
    let number = report
        .lines()
        .find_map(|l| l.split_once("Collected :"))
        .and_then(|(_, n)| n.trim().parse().ok());
    number.ok_or_else(|| format!("callgrind gave no count for {name}: {report}").into())
}

fn count(kernel: &Kernel) -> Result<u64, Failure> {
    let (less, more) = (collected(kernel.name, "2")?, collected(kernel.name, "4")?);
    Ok(more.saturating_sub(less) / 2)
}

fn environment() -> Result<Environment, Failure> {
    let first_line = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let unknown = || "unknown".to_owned();
    Ok(Environment {
        rustc: first_line(&rustc, "--version").unwrap_or_else(unknown),
        target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        vectors: under_valgrind(&["--vectors"])?.0.trim().to_owned(),
        libc: first_line("getconf", "GNU_LIBC_VERSION").unwrap_or_else(unknown),
        incremental: option_env!("CARGO_INCREMENTAL").is_some_and(|on| on != "0"),
    })
}

fn refresh() -> Result<(), Failure> {
    let mut instructions = BTreeMap::new();
    for kernel in &KERNELS {
        let counted = count(kernel)?;
        println!("{:<12} {counted:>12}  {}", kernel.name, kernel.what);
        instructions.insert(kernel.name.to_owned(), counted);
    }
    let baseline = Baseline {
        environment: environment()?,
        instructions,
    };
    let path = baseline_path();
    std::fs::write(&path, serde_json::to_string_pretty(&baseline)? + "\n")
        .map_err(|e| format!("{}: {e}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// Whether no kernel takes more instructions than it may.
fn compare(strict: bool) -> Result<bool, Failure> {
    let path = baseline_path();
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("{}: {e}; make it with --refresh", path.display()))?;
    let baseline: Baseline =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let here = environment()?;
    let comparable = here == baseline.environment;
    println!(
        "Instructions under callgrind; the program sees {}, so other kernels that it has are not \
         counted.",
        here.vectors
    );
    println!(
        "{:<12} {:>12} {:>12} {:>8}",
        "kernel", "baseline", "now", "change"
    );
    let mut good = true;
    for kernel in &KERNELS {
        let now = count(kernel)?;
        let Some(before) = baseline.instructions.get(kernel.name) else {
            println!(
                "{:<12} {:>12} {now:>12}          NOT IN THE BASELINE",
                kernel.name, "-"
            );
            good = false;
            continue;
        };
        let change = now as f64 / (*before).max(1) as f64 - 1.0;
        let verdict = if change > THRESHOLD {
            good = false;
            "MORE THAN ALLOWED"
        } else if change < -THRESHOLD {
            "fewer: --refresh keeps the gain"
        } else {
            ""
        };
        println!(
            "{:<12} {before:>12} {now:>12} {:>+7.2}%  {verdict}",
            kernel.name,
            100.0 * change
        );
    }
    if !comparable {
        println!(
            "NOT JUDGED: the baseline is of {:?},\nthis machine has {here:?}.\nCounts of another \
             compiler, C library or processor differ without a change of the code; count the \
             commit before yours here with --refresh to compare.",
            baseline.environment
        );
        return if strict {
            Err("nothing was judged".into())
        } else {
            Ok(true)
        };
    }
    if good {
        println!(
            "none is more than {:.0} % above its baseline",
            100.0 * THRESHOLD
        );
    } else {
        println!(
            "A kernel takes more than {:.0} % more instructions than its baseline. Find out why; if \
             the cost is meant, write the new counts with\n    cargo bench --bench instructions -- \
             --refresh\nand say in the commit what they buy.",
            100.0 * THRESHOLD
        );
    }
    Ok(good)
}
