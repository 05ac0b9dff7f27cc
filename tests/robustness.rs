//! What happens when a run is killed, interrupted, starved of disk space or refused its files:
//! nothing that was finished is lost, and the resumed run ends with the same bytes. The table in
//! docs/robustness.md names these tests.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use common::{CELLS, Place, SEARCH, files_under, same_files, told};

const JOURNAL: &str = "runs/quick/journal.jsonl";

/// One experiment of each way of working: fixed cells, and a search in rounds.
fn prepared() -> Place {
    Place::new(&[("cells", CELLS), ("search", SEARCH)])
}

impl Place {
    fn start(&self) -> Child {
        self.command("reproduce --threads 2").spawn().unwrap()
    }

    /// A shell line in which `$recall` is the program.
    fn shell(&self, line: &str) -> Output {
        Command::new("sh")
            .args(["-c", line])
            .current_dir(self.root())
            .env("recall", assert_cmd::cargo::cargo_bin("recall"))
            .output()
            .unwrap()
    }

    fn journal(&self) -> Vec<u8> {
        fs::read(self.path(JOURNAL)).unwrap_or_default()
    }

    /// Finishes the run and compares it with one that nothing has disturbed.
    fn ends_like_an_undisturbed_run(&self) {
        self.expect("reproduce --threads 2", 0);
        same_files(&UNDISTURBED, &self.report());
        self.expect("verify", 0);
    }
}

static UNDISTURBED: LazyLock<BTreeMap<PathBuf, Vec<u8>>> = LazyLock::new(|| {
    let place = prepared();
    place.expect("reproduce --threads 1", 0);
    place.report()
});

fn lines(journal: &[u8]) -> usize {
    journal.iter().filter(|b| **b == b'\n').count()
}

#[test]
fn killed_at_two_hundred_random_moments_nothing_is_lost() {
    const KILLS: usize = 200;
    let place = prepared();
    let begin = Instant::now();
    let _ = &*UNDISTURBED;
    let whole = begin.elapsed().as_secs_f64().max(0.05);
    // The moments are random anyhow; the seed fixes how they spread over a run.
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let (mut kills, mut runs, mut inside) = (0, 0, 0);
    let mut place = place;
    while kills < KILLS {
        // A new run now and then, so that every phase is hit: trials, rounds, figures, report.
        if runs > 0 && kills % 20 == 0 && place.path("runs").exists() {
            place.ends_like_an_undisturbed_run();
            place = prepared();
        }
        let mut kept = place.journal();
        let mut child = place.start();
        runs += 1;
        sleep(Duration::from_secs_f64(whole * rng.random_range(0.0..1.0)));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.signal() != Some(9) {
            assert!(status.success(), "{status}");
            place.ends_like_an_undisturbed_run();
            place = prepared();
            continue;
        }
        kills += 1;
        let now = place.journal();
        // Whole lines stay as they are; a torn one is cut off.
        kept.truncate(
            kept.iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |at| at + 1),
        );
        assert!(now.starts_with(&kept), "kill {kills} took finished trials");
        inside += usize::from(lines(&now) > lines(&kept));
    }
    place.ends_like_an_undisturbed_run();
    assert!(
        inside >= KILLS / 20,
        "only {inside} kills fell into the trials"
    );
}

#[test]
fn the_first_interrupt_stops_in_order_and_the_run_resumes() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut place = prepared();
        let mut interrupted = 0;
        for _ in 0..20 {
            let before = lines(&place.journal());
            let child = place.start();
            let begin = Instant::now();
            while lines(&place.journal()) == before && begin.elapsed() < Duration::from_secs(20) {
                sleep(Duration::from_millis(1));
            }
            let id = child.id();
            place.shell(&format!("kill -{signal} {id}"));
            let output = child.wait_with_output().unwrap();
            if output.status.code() == Some(0) {
                // It was through already: before any signal if the machine is busy.
                if interrupted > 0 {
                    break;
                }
                place = prepared();
                continue;
            }
            let (out, err) = told(output, code);
            assert!(out.is_empty(), "{out}");
            assert!(
                err.contains("interrupted: ") && err.contains("goes on from there"),
                "{err}"
            );
            let journal = place.journal();
            assert_eq!(journal.last(), Some(&b'\n'), "no torn line");
            interrupted += 1;
        }
        assert!(interrupted > 0);
        place.ends_like_an_undisturbed_run();
    }
}

#[test]
fn a_full_disk_is_an_error_that_costs_no_finished_trial() {
    // Files of at most 16 KiB (blocks of 512 bytes), then of 40: the journal runs into the limit.
    let place = prepared();
    let mut kept = 0;
    for blocks in [32, 80] {
        let line = format!("ulimit -f {blocks}; exec \"$recall\" reproduce --threads 2");
        let (_, err) = told(place.shell(&line), 1);
        assert!(
            err.contains("journal.jsonl") && err.contains("finished jobs are kept"),
            "{err}"
        );
        let journal = place.journal();
        assert_eq!(journal.last(), Some(&b'\n'), "no torn line");
        assert!(lines(&journal) > kept);
        kept = lines(&journal);
    }
    place.ends_like_an_undisturbed_run();
    // The journal is whole, the report does not fit.
    fs::remove_dir_all(place.path("reports")).unwrap();
    let (_, err) = told(place.shell("ulimit -f 16; exec \"$recall\" reproduce"), 1);
    assert!(err.contains("File too large"), "{err}");
    let left = files_under(&place.root().join("runs"));
    assert!(left.keys().all(|f| !f.to_string_lossy().ends_with(".tmp")));
    place.ends_like_an_undisturbed_run();

    // A device that is always full, for what goes to standard output or a named file.
    for line in [
        "\"$recall\" verify > /dev/full",
        "\"$recall\" verify --json > /dev/full",
        "\"$recall\" verify --junit /dev/full",
        "\"$recall\" predict --vocab 64 --dim 16 --len 8 --samples 64 > /dev/full",
        "\"$recall\" simulate --vocab 64 --dim 16 --len 8 --samples 64 --trials 2 > /dev/full",
    ] {
        let (_, err) = told(place.shell(line), 1);
        assert!(err.contains("No space left on device"), "{line}: {err}");
    }
}

#[test]
fn a_full_file_system_is_an_error_that_costs_no_finished_trial() {
    let place = prepared();
    let small = place.path("small");
    fs::create_dir(&small).unwrap();
    let mount = format!("mount -t tmpfs -o size=24k tmpfs {}", small.display());
    if !place.shell(&mount).status.success() {
        // Needs an administrator; the same path is tested by the file-size limit above.
        eprintln!("skipped: cannot mount a file system here");
        return;
    }
    let output = place.command("reproduce --runs small --threads 2").output();
    let journal = fs::read(small.join("quick/journal.jsonl"));
    let umount = place.shell(&format!("umount {}", small.display()));
    assert!(umount.status.success());
    let (_, err) = told(output.unwrap(), 1);
    assert!(
        err.contains("No space left on device") && err.contains("free some space"),
        "{err}"
    );
    let journal = journal.unwrap();
    assert!(lines(&journal) > 10 && journal.last() == Some(&b'\n'));
    fs::create_dir_all(place.path("runs/quick")).unwrap();
    fs::write(place.path(JOURNAL), journal).unwrap();
    place.ends_like_an_undisturbed_run();
}

#[test]
fn files_that_cannot_be_written_are_named_and_nothing_changes() {
    let place = prepared();
    // A directory where a file should be stops an administrator, too.
    for (at, option) in [
        ("runs/quick/journal.jsonl", ""),
        ("reports/quick/figures", ""),
    ] {
        let path = place.path(at);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if at.ends_with("figures") {
            fs::write(&path, "in the way").unwrap();
        } else {
            fs::create_dir_all(&path).unwrap();
        }
        let (out, err) = place.expect(&format!("reproduce {option}"), 1);
        assert!(out.is_empty() && err.contains(at), "{err}");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        } else {
            assert_eq!(fs::read_to_string(&path).unwrap(), "in the way");
            fs::remove_file(&path).unwrap();
        }
    }
    // Permissions stop everybody else.
    let reports = place.path("reports");
    let locked = fs::Permissions::from_mode(0o555);
    fs::set_permissions(place.path("reports/quick"), locked).unwrap();
    let refused = fs::File::create(place.path("reports/quick/probe")).is_err();
    if refused {
        let (_, err) = place.expect("reproduce", 1);
        assert!(err.contains("Permission denied"), "{err}");
    }
    fs::set_permissions(
        place.path("reports/quick"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    fs::remove_dir_all(reports).unwrap();
    place.ends_like_an_undisturbed_run();
}

#[test]
fn a_damaged_store_is_told_and_mended() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let place = prepared();
    place.expect("reproduce", 0);
    let whole = place.journal();
    for round in 0..12 {
        let mut bytes = whole.clone();
        match round % 4 {
            0 => bytes.truncate(rng.random_range(0..whole.len())),
            1 => {
                let at = rng.random_range(0..whole.len());
                bytes[at] ^= 1 << rng.random_range(0..8);
            }
            2 => {
                let at = rng.random_range(0..whole.len());
                let zeros = (whole.len() - at).min(3000);
                bytes[at..at + zeros].fill(0);
            }
            _ => bytes.extend((0..500).map(|_| rng.random::<u8>())),
        }
        fs::write(place.path(JOURNAL), &bytes).unwrap();
        place.ends_like_an_undisturbed_run();
    }
}

#[test]
fn a_second_process_on_a_store_is_sent_away() {
    let place = prepared();
    let mut first = place.start();
    let begin = Instant::now();
    while !place.path(JOURNAL).exists() && begin.elapsed() < Duration::from_secs(20) {
        sleep(Duration::from_millis(1));
    }
    // Whatever the outcome of the race, both end, one of them may be refused, none harms the other.
    let second = place.command("reproduce --threads 2").output().unwrap();
    let status = first.wait().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    let (one, two) = (status.success(), second.status.success());
    assert!(one || two, "{status}, {error}");
    if !two {
        assert_eq!(second.status.code(), Some(1));
        assert!(error.contains("in use by another run"), "{error}");
    }
    place.ends_like_an_undisturbed_run();
    // A lock that is certainly held.
    let file = fs::OpenOptions::new()
        .append(true)
        .open(place.path(JOURNAL))
        .unwrap();
    file.lock().unwrap();
    let (_, err) = place.expect("reproduce", 1);
    assert!(err.contains("in use by another run"), "{err}");
    place.expect("verify", 0); // reads only the report
}

#[test]
fn written_files_are_writable_by_their_owner_alone() {
    fn check(dir: &Path) -> usize {
        let mut seen = 0;
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            if path.is_dir() {
                assert_eq!(mode & !0o755, 0, "{}: {mode:o}", path.display());
                seen += check(&path);
            } else {
                assert_eq!(mode & !0o644, 0, "{}: {mode:o}", path.display());
                seen += 1;
            }
        }
        seen
    }
    let place = prepared();
    let line = "umask 000; \"$recall\" reproduce --threads 2 && \"$recall\" verify --write-baseline reports/before.json --junit reports/junit.xml";
    told(place.shell(line), 0);
    assert!(check(&place.path("runs")) >= 2 && check(&place.path("reports")) >= 10);
    // A stricter umask stays in force.
    let line = "umask 077; \"$recall\" verify --write-baseline reports/private.json";
    told(place.shell(line), 0);
    let mode = place
        .path("reports/private.json")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn leftovers_of_killed_processes_are_removed_and_files_in_use_are_not() {
    let place = prepared();
    fs::create_dir_all(place.path("reports/quick/figures")).unwrap();
    let stale = place.path("reports/quick/figures/.recall-old.tmp");
    fs::write(&stale, "half a figu").unwrap();
    let used = place.path("reports/quick/.recall-used.tmp");
    let file = fs::File::create(&used).unwrap();
    file.lock().unwrap();
    place.expect("reproduce", 0);
    assert!(!stale.exists() && used.exists());
    drop(file);
    place.ends_like_an_undisturbed_run();
    assert!(!used.exists());
}

/// No code asks for the time of day or for the system's randomness, and the monotonic clock is read
/// in one module, which `tests/clock.rs` replaces by one that jumps.
#[test]
fn no_result_can_depend_on_the_clock() {
    fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("theory/src"), &mut files);
    assert!(files.len() > 50);
    let mut timed = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for clock in [
            "SystemTime",
            "UNIX_EPOCH",
            "thread_rng",
            "rand::rng(",
            "from_os_rng",
        ] {
            assert!(!text.contains(clock), "{}: {clock}", file.display());
        }
        if text.contains("Instant") {
            timed.push(
                file.strip_prefix(root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
    assert_eq!(timed, ["src/clock.rs"]);
}
