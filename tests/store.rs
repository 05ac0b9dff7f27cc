//! The store and the runner: the same final bytes for any threads, order, interruption or damage,
//! and a clear error for what cannot be.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use recall_capacity::job::{Configuration, Job, Record};
use recall_capacity::progress::{Lines, Silent};
use recall_capacity::rng::sha256_hex;
use recall_capacity::runner::{Observer, Plan, RunError, RunOptions, RunSummary, run_jobs};
use recall_capacity::store::{JOURNAL, MEASUREMENTS, Store, StoreError};
use recall_theory::{Samples, Setting};
use tempfile::TempDir;

/// A directory in memory where there is one: the tests wait for the disk thousands of times.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn jobs() -> Vec<Job> {
    (0..6)
        .map(|seed| {
            let mut config = Configuration::of(&Setting::new(32, 8, 4, 64 + seed % 2));
            config.test_sequences = 64;
            if seed == 2 {
                config.samples = Samples::Infinite;
            }
            config.decompose = seed == 3;
            Job {
                config,
                seed,
                paired: vec![],
            }
        })
        .collect()
}

fn with_threads(threads: usize) -> RunOptions<'static> {
    RunOptions {
        threads,
        ..RunOptions::default()
    }
}

fn run(jobs: Vec<Job>, store: &mut Store, threads: usize) -> RunSummary {
    run_jobs(jobs, store, with_threads(threads), &mut Silent).unwrap()
}

/// Opens a directory, runs what is missing and returns the bytes of the final file.
fn complete(dir: &Path) -> (Vec<u8>, RunSummary) {
    let mut store = Store::open(dir).unwrap();
    let summary = run(jobs(), &mut store, 1);
    store.finalise(&jobs()).unwrap();
    (fs::read(dir.join(MEASUREMENTS)).unwrap(), summary)
}

/// A finished run: journal (in the order of [`jobs`]) and final file.
static FINISHED: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let dir = scratch();
    let mut store = Store::open(&dir).unwrap();
    for job in jobs() {
        assert!(store.insert(job.run().unwrap()).unwrap());
    }
    store.finalise(&jobs()).unwrap();
    (
        fs::read(dir.path().join(JOURNAL)).unwrap(),
        fs::read(dir.path().join(MEASUREMENTS)).unwrap(),
    )
});

fn with_journal(bytes: &[u8]) -> TempDir {
    let dir = scratch();
    fs::write(dir.path().join(JOURNAL), bytes).unwrap();
    dir
}

fn sealed(text: &str) -> String {
    let check = &sha256_hex(text)[..16];
    format!("{{\"check\":\"{check}\",\"record\":{text}}}\n")
}

#[test]
fn final_bytes_are_those_of_the_records_in_canonical_order() {
    let expected: String = jobs()
        .iter()
        .map(|j| serde_json::to_string(&j.run().unwrap()).unwrap() + "\n")
        .collect();
    assert_eq!(String::from_utf8(FINISHED.1.clone()).unwrap(), expected);
}

#[test]
fn final_bytes_do_not_depend_on_threads_or_order() {
    for threads in [1, 2, 5] {
        for turn in 0..3 {
            let dir = scratch();
            let mut shuffled = jobs();
            shuffled.rotate_left(2 * turn);
            shuffled.swap(0, 3);
            shuffled.extend(jobs()); // duplicates run once
            let mut store = Store::open(&dir).unwrap();
            let summary = run(shuffled.clone(), &mut store, threads);
            assert_eq!(
                (summary.total, summary.skipped, summary.finished),
                (6, 0, 6)
            );
            assert!(!summary.stopped);
            store.finalise(&[jobs(), shuffled].concat()).unwrap();
            let path = dir.path().join(MEASUREMENTS);
            assert_eq!(fs::read(&path).unwrap(), FINISHED.1);

            let back = Store::read_only(&path).unwrap();
            assert!(
                back.records()
                    .eq(jobs().iter().filter_map(|j| store.get_job(j)))
            );
            assert_eq!((back.len(), back.kernels().len()), (6, 1));
            assert!(back.aside().notes().is_empty());
        }
    }
}

#[test]
fn restart_after_a_cut_at_every_byte_of_the_last_two_lines() {
    let (journal, expected) = &*FINISHED;
    let ends: Vec<usize> = (1..=journal.len())
        .filter(|&i| journal[i - 1] == b'\n')
        .collect();
    let dir = scratch();
    let path = dir.path().join(JOURNAL);
    for cut in ends[3]..=journal.len() {
        fs::write(&path, &journal[..cut]).unwrap();
        let whole = ends.iter().filter(|&&e| e <= cut).count();
        let torn = cut - ends[whole - 1];
        let store = Store::open(&dir).unwrap();
        assert_eq!(store.len(), whole, "cut at {cut}");
        assert_eq!(store.aside().torn, torn as u64);
        assert!(store.aside().damaged.is_empty());
        drop(store);
        let (bytes, summary) = complete(dir.path());
        assert_eq!(summary.finished, 6 - whole);
        assert!(&bytes == expected, "cut at {cut}");
        let again = Store::open(&dir).unwrap();
        assert_eq!(again.len(), 6);
        assert!(again.aside().notes().is_empty(), "cut at {cut}");
    }
}

#[test]
fn a_damaged_line_is_skipped_named_and_run_again() {
    let (journal, expected) = &*FINISHED;
    let second = journal.iter().position(|&b| b == b'\n').unwrap() + 1;
    let mut bytes = journal.clone();
    bytes[second + 200] ^= 1;
    let dir = with_journal(&bytes);
    let store = Store::open(&dir).unwrap();
    assert_eq!((store.len(), &*store.aside().damaged), (5, &[2][..]));
    assert!(store.aside().notes()[0].contains("1 line (2)"));
    drop(store);
    let (final_bytes, summary) = complete(dir.path());
    assert_eq!((summary.skipped, summary.finished), (5, 1));
    assert!(&final_bytes == expected);
    let kept = fs::read(dir.path().join(JOURNAL)).unwrap();
    assert!(kept.starts_with(&bytes), "nothing is deleted");
}

#[test]
fn one_store_at_a_time() {
    let dir = scratch();
    let store = Store::open(&dir).unwrap();
    let error = Store::open(&dir).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }));
    let text = error.to_string();
    assert!(text.contains(JOURNAL) && text.contains("another output directory"));
    drop(store);
    Store::open(&dir).unwrap();
}

#[test]
fn other_versions_and_keys_are_ignored_counted_and_kept() {
    let record = jobs()[0].run().unwrap();
    let text = |r: &Record| serde_json::to_string(r).unwrap();
    let schema = Record {
        schema: record.schema + 1,
        ..record.clone()
    };
    let scheme = Record {
        rng_scheme: record.rng_scheme + 1,
        ..record.clone()
    };
    let future = r#"{"schema":99,"rng_scheme":1,"layout":"unknown"}"#;
    let wrong_key = Record {
        key: jobs()[1].key(),
        ..record.clone()
    };
    let lines: String = [
        &text(&schema),
        &text(&scheme),
        future,
        &text(&wrong_key),
        "{}",
    ]
    .map(sealed)
    .concat();
    let dir = with_journal(lines.as_bytes());
    let mut store = Store::open(&dir).unwrap();
    assert!(store.is_empty());
    let aside = store.aside();
    assert_eq!((aside.other_version, aside.other_key), (3, 1));
    assert_eq!((&*aside.damaged, aside.torn), (&[5][..], 0));
    assert_eq!(aside.notes().len(), 3);
    for wrong in [&schema, &scheme, &wrong_key] {
        let error = store.insert(wrong.clone()).unwrap_err();
        assert!(matches!(error, StoreError::Unstorable { .. }), "{error}");
    }
    assert!(store.insert(record).unwrap());
    let bytes = fs::read_to_string(dir.path().join(JOURNAL)).unwrap();
    assert_eq!(bytes.strip_prefix(&lines).unwrap().lines().count(), 1);

    let path = dir.path().join(MEASUREMENTS);
    fs::write(&path, text(&schema) + "\n").unwrap();
    let store = Store::read_only(&path).unwrap();
    assert_eq!((store.len(), store.aside().other_version), (0, 1));
}

#[test]
fn outcomes_must_repeat_unless_the_kernel_differs() {
    let dir = scratch();
    let mut store = Store::open(&dir).unwrap();
    let record = jobs()[0].run().unwrap();
    assert!(store.insert(record.clone()).unwrap());
    assert!(!store.insert(record.clone()).unwrap());
    let mut other = record.clone();
    other.outcome.signal += 1.0;
    let error = store.insert(other.clone()).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
    let text = serde_json::to_string(&other).unwrap();
    other.kernel = "another".into();
    assert!(!store.insert(other).unwrap());
    assert_eq!(store.get(&record.key), Some(&record));
    drop(store);

    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(dir.path().join(JOURNAL))
        .unwrap();
    file.write_all(sealed(&text).as_bytes()).unwrap();
    let store = Store::open(&dir).unwrap();
    assert_eq!((store.len(), &*store.aside().conflicting), (1, &[2][..]));

    let mut unreadable = jobs()[1].run().unwrap();
    unreadable.outcome.signal = f64::NAN;
    let mut store = store;
    let error = store.insert(unreadable).unwrap_err();
    assert!(matches!(error, StoreError::Unstorable { .. }), "{error}");
    assert_eq!(store.len(), 1);
}

#[test]
fn an_incomplete_or_failed_final_file_is_not_written() {
    let dir = with_journal(&FINISHED.0);
    let path = dir.path().join(MEASUREMENTS);
    let mut store = Store::open(&dir).unwrap();
    let mut order = jobs();
    order[4].seed = 77;
    let error = store.finalise(&order).unwrap_err();
    assert!(error.to_string().contains(&order[4].canonical()), "{error}");
    assert!(!path.exists());
    let done = store.finalise(&order[..2]).unwrap();
    assert_eq!((done.records, done.left_out), (2, 4));

    let mut reader = Store::read_only(&path).unwrap();
    let record = order[0].run().unwrap();
    assert!(matches!(
        reader.insert(record).unwrap_err(),
        StoreError::ReadOnly { .. }
    ));
    assert!(matches!(
        reader.finalise(&[]).unwrap_err(),
        StoreError::ReadOnly { .. }
    ));

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap(); // cannot be replaced by a file
    let error = store.finalise(&jobs()).unwrap_err();
    assert!(error.to_string().contains(MEASUREMENTS), "{error}");
    let names = fs::read_dir(&dir).unwrap().count();
    assert_eq!(names, 2, "the unfinished file is gone");
}

#[test]
fn paths_that_cannot_work_are_errors() {
    let dir = scratch();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.join("run"), file.clone()] {
        let error = Store::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("file") && error.contains("choose"),
            "{error}"
        );
    }
    let run = dir.path().join("run");
    fs::create_dir_all(run.join(JOURNAL)).unwrap();
    assert!(matches!(
        Store::open(&run).unwrap_err(),
        StoreError::NotAFile { .. }
    ));
    let error = Store::read_only(run.join(MEASUREMENTS)).unwrap_err();
    assert!(error.to_string().contains("run the experiment"), "{error}");
}

#[test]
fn a_damaged_final_file_is_an_error_with_the_line() {
    let bytes = &FINISHED.1;
    let first = bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
    let dir = scratch();
    let path = dir.path().join(MEASUREMENTS);
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Store::read_only(&path)
    };
    let cases: [(&[u8], usize); 3] = [
        (&bytes[..bytes.len() - 1], 6),
        (&[&bytes[..first], &bytes[..first]].concat(), 2),
        (&[&bytes[..first], b"nonsense\n".as_slice()].concat(), 2),
    ];
    for (bytes, line) in cases {
        let error = read(bytes).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}:")), "{error}");
    }
    assert!(read(b"").unwrap().is_empty());
}

#[test]
fn jobs_over_the_memory_limit_are_refused_before_anything_starts() {
    let dir = scratch();
    let mut store = Store::open(&dir).unwrap();
    let mut all = jobs();
    all[1].config.vocab = 1 << 20;
    let limited = RunOptions {
        memory_limit_bytes: Some(100e6),
        ..with_threads(1)
    };
    let error = run_jobs(all.clone(), &mut store, limited, &mut Silent).unwrap_err();
    assert!(matches!(error, RunError::Memory { count: 1, .. }));
    let text = error.to_string();
    assert!(
        text.contains("95.37 MiB") && text.contains(&all[1].canonical()),
        "{text}"
    );
    let estimate = all[1].cost().bytes / f64::from(1 << 20);
    assert!(text.contains(&format!("{estimate:.2} MiB")), "{text}");
    assert!(store.is_empty());
    let finished = run_jobs(jobs(), &mut store, limited, &mut Silent)
        .unwrap()
        .finished;
    assert_eq!(finished, 6);
    let none = RunOptions {
        memory_limit_bytes: Some(f64::NAN),
        ..limited
    };
    all.truncate(2);
    assert!(run_jobs(all, &mut store, none, &mut Silent).is_err());
    let nothing_to_run = run_jobs(jobs(), &mut store, none, &mut Silent).unwrap();
    assert_eq!((nothing_to_run.skipped, nothing_to_run.finished), (6, 0));
}

#[derive(Default)]
struct StopAfter<'a> {
    flag: Option<&'a AtomicBool>,
    plan: Option<Plan>,
    finished: usize,
    done: usize,
}

impl Observer for StopAfter<'_> {
    fn started(&mut self, plan: &Plan) {
        self.plan = Some(*plan);
    }
    fn finished(&mut self, _job: &Job, seconds: f64) {
        assert!(seconds > 0.0);
        self.finished += 1;
        if let Some(flag) = self.flag {
            flag.store(true, Ordering::Relaxed);
        }
    }
    fn done(&mut self) {
        self.done += 1;
    }
}

#[test]
fn the_stop_flag_lets_running_jobs_finish() {
    let dir = scratch();
    let mut store = Store::open(&dir).unwrap();
    store.insert(jobs()[5].run().unwrap()).unwrap();
    let flag = AtomicBool::new(false);
    let mut observer = StopAfter {
        flag: Some(&flag),
        ..StopAfter::default()
    };
    let options = RunOptions {
        stop: Some(&flag),
        ..with_threads(1)
    };
    let summary = run_jobs(jobs(), &mut store, options, &mut observer).unwrap();
    assert!(summary.stopped);
    // The second job started before the first was reported.
    assert_eq!((summary.finished, observer.finished), (2, 2));
    let plan = observer.plan.unwrap();
    assert_eq!((plan.total, plan.skipped, plan.to_run()), (6, 1, 5));
    assert!(plan.seconds() >= plan.longest_seconds && plan.longest_seconds > 0.0);
    assert_eq!(observer.done, 1);

    let at_once = run_jobs(jobs(), &mut store, options, &mut Silent).unwrap();
    assert!(at_once.stopped && at_once.finished == 0);
    drop(store);
    assert!(complete(dir.path()).0 == FINISHED.1);
}

#[test]
fn lines_are_rare_and_survive_a_closed_log() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let printed = |interval| {
        let dir = scratch();
        let mut store = Store::open(&dir).unwrap();
        let mut out = Vec::new();
        let mut lines = Lines::new(&mut out, interval);
        run_jobs(jobs(), &mut store, with_threads(2), &mut lines).unwrap();
        String::from_utf8(out).unwrap()
    };
    let rare = printed(Duration::from_secs(3600));
    assert_eq!(rare.lines().count(), 2, "{rare}");
    assert!(
        rare.starts_with("6 jobs, 0 done before, 6 to run"),
        "{rare}"
    );
    assert!(rare.contains("6/6 jobs done"), "{rare}");
    assert_eq!(printed(Duration::ZERO).lines().count(), 8);
    let dir = scratch();
    let mut store = Store::open(&dir).unwrap();
    let mut closed = Lines::new(Closed, Duration::ZERO);
    run_jobs(jobs(), &mut store, with_threads(1), &mut closed).unwrap();
}

// Tests that need a second process start this test program again, with a directory to work on.
const CHILD: &str = "RECALL_STORE_TEST_DIR";

/// Enough of them that a process is killed long before the last.
const MANY: usize = 1000;

fn many_jobs() -> Vec<Job> {
    let mut config = Configuration::of(&Setting::new(128, 16, 4, 64));
    config.test_sequences = 64;
    (0..MANY as u64)
        .map(|seed| Job {
            config,
            seed,
            paired: vec![],
        })
        .collect()
}

#[test]
fn child_process() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let mut store = match Store::open(dir) {
        Ok(store) => store,
        Err(e) => {
            println!("child: {e}");
            return;
        }
    };
    match run_jobs(many_jobs(), &mut store, with_threads(2), &mut Silent) {
        Ok(_) => println!("child: {:?}", store.finalise(&many_jobs())),
        Err(e) => println!("child: {e}"),
    }
}

fn child(mut program: Command, dir: &Path) -> Command {
    program
        .args(["--exact", "child_process", "--nocapture"])
        .env(CHILD, dir)
        .stdout(std::process::Stdio::piped());
    program
}

fn lines_in(path: &Path) -> usize {
    fs::read(path).map_or(0, |b| b.iter().filter(|&&b| b == b'\n').count())
}

#[test]
fn killed_processes_lose_only_jobs_in_flight() {
    let dir = scratch();
    let path = dir.path().join(JOURNAL);
    let exe = std::env::current_exe().unwrap();
    let mut before = 0;
    for kill in 0..4 {
        let mut process = child(Command::new(&exe), dir.path()).spawn().unwrap();
        while lines_in(&path) < before + 20 + 7 * kill {
            assert!(process.try_wait().unwrap().is_none(), "ended too early");
            std::thread::sleep(Duration::from_millis(1));
        }
        let seen = lines_in(&path);
        process.kill().unwrap(); // SIGKILL
        process.wait().unwrap();
        let store = Store::open(&dir).unwrap();
        assert!(store.len() >= seen && store.len() < MANY);
        assert!(store.aside().damaged.is_empty());
        before = store.len();
    }
    let mut store = Store::open(&dir).unwrap();
    let other_process = child(Command::new(&exe), dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&other_process.stdout).into_owned();
    assert!(said.contains("is in use by another run"), "{said}");
    let summary = run(many_jobs(), &mut store, 2);
    assert_eq!((summary.skipped, summary.finished), (before, MANY - before));
    store.finalise(&many_jobs()).unwrap();

    let fresh = scratch();
    let mut uninterrupted = Store::open(&fresh).unwrap();
    run(many_jobs(), &mut uninterrupted, 1);
    uninterrupted.finalise(&many_jobs()).unwrap();
    let bytes = |dir: &TempDir| fs::read(dir.path().join(MEASUREMENTS)).unwrap();
    assert!(bytes(&dir) == bytes(&fresh));
}

/// A limit on the size of files stands for a full disk: the write that crosses it is cut short and
/// the next one fails.
#[cfg(unix)]
#[test]
fn no_space_is_an_error_that_keeps_finished_jobs() {
    let exe = std::env::current_exe().unwrap();
    let limited = |blocks: usize, dir: &Path| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!(
            "trap '' XFSZ; ulimit -f {blocks} || exit 1; exec \"$0\" \"$@\""
        ));
        shell.arg(&exe);
        let output = child(shell, dir).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let dir = scratch();
    let path = dir.path().join(JOURNAL);
    let said = limited(16, dir.path());
    assert!(
        said.contains("free some space") && said.contains(JOURNAL),
        "{said}"
    );
    let store = Store::open(&dir).unwrap();
    assert!(store.len() > 4 && store.len() < MANY);
    assert_eq!(
        store.aside().torn,
        0,
        "the part that was written is cut off"
    );
    drop(store);

    // The journal is complete, the final file does not fit.
    let mut store = Store::open(&dir).unwrap();
    run(many_jobs(), &mut store, 2);
    drop(store);
    let before = fs::read(&path).unwrap();
    let said = limited(16, dir.path());
    assert!(said.contains("FileTooLarge"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        1,
        "nothing half-written"
    );
}

fn opens_completes_and_repeats(journal: &[u8]) {
    let dir = with_journal(journal);
    let store = Store::open(&dir).unwrap();
    let _ = store.aside().notes();
    drop(store);
    assert!(complete(dir.path()).0 == FINISHED.1);
    let store = Store::open(&dir).unwrap();
    assert_eq!((store.len(), store.aside().torn), (6, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        opens_completes_and_repeats(&bytes);
        let dir = scratch();
        let path = dir.path().join(MEASUREMENTS);
        fs::write(&path, &bytes).unwrap();
        let _ = Store::read_only(&path);
    }

    #[test]
    fn damage_never_changes_the_final_file(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        moved in any::<bool>(),
    ) {
        let mut bytes = FINISHED.0.clone();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if moved {
            let at = cut.index(bytes.len());
            bytes.rotate_left(at);
        }
        opens_completes_and_repeats(&bytes);
        let mut plain = FINISHED.1.clone();
        let at = cut.index(plain.len());
        plain.rotate_left(at);
        let dir = scratch();
        let path = dir.path().join(MEASUREMENTS);
        fs::write(&path, &plain).unwrap();
        let _ = Store::read_only(&path);
    }

    #[test]
    fn sealed_json_of_any_kind_never_panics(text in r#"(\{|\[|"schema":1,|"rng_scheme":1|"key":"x"|,|"job":|null|1e999|\}|\]){0,12}"#) {
        opens_completes_and_repeats(sealed(&text).as_bytes());
    }
}
