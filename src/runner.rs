//! Runs jobs on several threads and stores their records as they finish.

use std::any::Any;
use std::cmp::Ordering;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{self, AtomicBool};
use std::sync::mpsc;
use std::thread;

use indicatif::HumanBytes;

use crate::clock::Moment;
use crate::job::{Cost, Job, JobError, Record};
use crate::store::{Store, StoreError};

/// How to run.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions<'a> {
    /// Number of worker threads; 0 for one per available core.
    pub threads: usize,
    /// Bound on the estimated memory of all jobs that run at a time.
    pub memory_limit_bytes: Option<f64>,
    /// Once true, no further job starts; those that run finish and are stored.
    pub stop: Option<&'a AtomicBool>,
}

/// What a run is about to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Number of distinct jobs asked for.
    pub total: usize,
    /// How many of them are in the store.
    pub skipped: usize,
    /// Number of worker threads.
    pub threads: usize,
    /// Estimated time of the jobs left, on one core.
    pub core_seconds: f64,
    /// Estimated time of the longest of them.
    pub longest_seconds: f64,
}

impl Plan {
    /// Number of jobs to run.
    #[must_use]
    pub fn to_run(&self) -> usize {
        self.total - self.skipped
    }

    /// Estimated time until the end.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.core_seconds / self.threads.max(1) as f64).max(self.longest_seconds)
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunSummary {
    /// Number of distinct jobs asked for.
    pub total: usize,
    /// How many of them were in the store before.
    pub skipped: usize,
    /// How many ran and are stored.
    pub finished: usize,
    /// Whether the stop flag left some undone.
    pub stopped: bool,
    /// Duration of the run.
    pub seconds: f64,
    /// Time spent in jobs, all threads together.
    pub busy_seconds: f64,
}

/// Watches a run. Called from the thread that called [`run_jobs`].
pub trait Observer {
    /// Jobs are about to start.
    fn started(&mut self, _plan: &Plan) {}
    /// A job has ended and is in the store.
    fn finished(&mut self, _job: &Job, _seconds: f64) {}
    /// Nothing runs any more, whether or not all went well; follows every `started`.
    fn done(&mut self) {}
}

/// Why a run ended early. Jobs finished before that are in the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A job is too large.
    #[error(
        "{count} of the jobs need more memory than the limit of {}, the largest about {}: {job}; \
         nothing was started: raise the limit or make the job smaller",
        HumanBytes(*limit as u64), HumanBytes(*bytes as u64)
    )]
    Memory {
        /// Number of jobs over the limit.
        count: usize,
        /// Canonical text of the largest one.
        job: String,
        /// Its estimated memory.
        bytes: f64,
        /// The limit.
        limit: f64,
    },
    /// A job is not valid.
    #[error("the job {job} cannot run: {source}")]
    Job {
        /// Canonical text.
        job: String,
        /// What is wrong with it.
        source: JobError,
    },
    /// A job panicked.
    #[error("the job {job} panicked: {message}; finished jobs are stored; report this")]
    Panicked {
        /// Canonical text.
        job: String,
        /// Message of the panic.
        message: String,
    },
    /// A record could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No thread to run on.
    #[error("cannot start a worker thread: {0}; use fewer threads")]
    Thread(io::Error),
}

/// Runs the jobs that are not in the store, each once, the longest first, and stores each record
/// as it finishes.
///
/// # Errors
/// Before anything starts, if a job is out of range or too large for the memory limit. Later, if a
/// job fails or panics or a record cannot be stored: no further job starts then, and the error
/// comes once those that run have finished and been stored.
pub fn run_jobs(
    jobs: Vec<Job>,
    store: &mut Store,
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<RunSummary, RunError> {
    run_jobs_by(jobs, store, options, observer, &Job::run)
}

type Run<'a> = dyn Fn(&Job) -> Result<Record, JobError> + Sync + 'a;

struct Task {
    job: Job,
    cost: Cost,
}

struct Ended {
    worker: usize,
    job: Job,
    result: thread::Result<Result<Record, JobError>>,
    seconds: f64,
}

fn run_jobs_by(
    jobs: Vec<Job>,
    store: &mut Store,
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
    run: &Run<'_>,
) -> Result<RunSummary, RunError> {
    let begin = Moment::now();
    let mut seen = HashSet::new();
    let mut queue = Vec::new();
    for job in jobs {
        let key = job.key();
        if store.get(&key).is_none() && !seen.contains(&key) {
            let cost = job.cost();
            queue.push(Task { job, cost });
        }
        seen.insert(key);
    }
    let total = seen.len();
    let skipped = total - queue.len();
    check(&queue, options.memory_limit_bytes)?;
    queue.sort_by(|a, b| b.cost.seconds.total_cmp(&a.cost.seconds));

    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
    .min(queue.len());
    observer.started(&Plan {
        total,
        skipped,
        threads,
        core_seconds: queue.iter().map(|t| t.cost.seconds).sum(),
        longest_seconds: queue.first().map_or(0.0, |t| t.cost.seconds),
    });
    let mut pool = Pool {
        queue: queue.into(),
        workers: Vec::with_capacity(threads),
        limit: options.memory_limit_bytes.unwrap_or(f64::INFINITY),
        stop: options.stop,
        failure: None,
    };
    let (mut finished, mut busy_seconds) = (0, 0.0);
    thread::scope(|scope| {
        let (report, reports) = mpsc::channel();
        for worker in 0..threads {
            match spawn(scope, worker, report.clone(), run) {
                Ok(give) => pool.workers.push(Worker { give, load: None }),
                Err(e) => {
                    pool.failure = Some(RunError::Thread(e));
                    break;
                }
            }
        }
        drop(report);
        pool.hand_out();
        while pool.running() > 0 {
            let Ok(ended) = reports.recv() else { break };
            pool.workers[ended.worker].load = None;
            busy_seconds += ended.seconds;
            let record = match outcome(&ended.job, ended.result) {
                Ok(record) => Some(record),
                Err(e) => {
                    pool.failure.get_or_insert(e);
                    None
                }
            };
            // The worker goes on while the record is written.
            pool.hand_out();
            match record.map(|r| store.insert(r)) {
                Some(Ok(_)) => {
                    finished += 1;
                    observer.finished(&ended.job, ended.seconds);
                }
                Some(Err(e)) => {
                    pool.failure.get_or_insert(e.into());
                }
                None => {}
            }
        }
        pool.workers.clear(); // ends the threads
    });
    let synced = store.sync();
    observer.done();
    match pool.failure {
        Some(e) => return Err(e),
        None => synced?,
    }
    Ok(RunSummary {
        total,
        skipped,
        finished,
        stopped: !pool.queue.is_empty(),
        seconds: begin.elapsed().as_secs_f64(),
        busy_seconds,
    })
}

/// Refuses what cannot run before anything starts.
fn check(queue: &[Task], limit: Option<f64>) -> Result<(), RunError> {
    for Task { job, .. } in queue {
        job.config.setting().validate().map_err(|e| RunError::Job {
            job: job.canonical(),
            source: e.into(),
        })?;
    }
    let Some(limit) = limit else { return Ok(()) };
    // A limit that is not a number admits nothing.
    let over = |t: &&Task| t.cost.bytes.partial_cmp(&limit).is_none_or(Ordering::is_gt);
    match queue
        .iter()
        .filter(over)
        .max_by(|a, b| a.cost.bytes.total_cmp(&b.cost.bytes))
    {
        None => Ok(()),
        Some(largest) => Err(RunError::Memory {
            count: queue.iter().filter(over).count(),
            job: largest.job.canonical(),
            bytes: largest.cost.bytes,
            limit,
        }),
    }
}

struct Worker {
    give: mpsc::Sender<Job>,
    /// Estimated bytes of the job it runs.
    load: Option<f64>,
}

struct Pool<'a> {
    queue: VecDeque<Task>,
    workers: Vec<Worker>,
    limit: f64,
    stop: Option<&'a AtomicBool>,
    failure: Option<RunError>,
}

impl Pool<'_> {
    fn running(&self) -> usize {
        self.workers.iter().filter(|w| w.load.is_some()).count()
    }

    /// Gives each idle worker the longest job that fits beside those that run.
    fn hand_out(&mut self) {
        while self.failure.is_none()
            && !self.stop.is_some_and(|s| s.load(atomic::Ordering::Relaxed))
        {
            let used: f64 = self.workers.iter().filter_map(|w| w.load).sum();
            let Some(idle) = self.workers.iter_mut().find(|w| w.load.is_none()) else {
                break;
            };
            let fits = |t: &Task| used + t.cost.bytes <= self.limit;
            let Some(task) = self
                .queue
                .iter()
                .position(fits)
                .and_then(|at| self.queue.remove(at))
            else {
                break;
            };
            if idle.give.send(task.job).is_err() {
                let gone = io::Error::other("one has ended by itself");
                self.failure = Some(RunError::Thread(gone));
                break;
            }
            idle.load = Some(task.cost.bytes);
        }
    }
}

fn spawn<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    worker: usize,
    report: mpsc::Sender<Ended>,
    run: &'scope Run<'_>,
) -> io::Result<mpsc::Sender<Job>> {
    let (give, jobs) = mpsc::channel::<Job>();
    thread::Builder::new()
        .name(format!("job-{worker}"))
        .spawn_scoped(scope, move || {
            for job in jobs {
                let begin = Moment::now();
                // A job owns all that it changes, so nothing broken outlives its panic.
                let result = catch_unwind(AssertUnwindSafe(|| run(&job)));
                let ended = Ended {
                    worker,
                    job,
                    result,
                    seconds: begin.elapsed().as_secs_f64(),
                };
                if report.send(ended).is_err() {
                    break;
                }
            }
        })?;
    Ok(give)
}

fn outcome(
    job: &Job,
    result: thread::Result<Result<Record, JobError>>,
) -> Result<Record, RunError> {
    match result {
        Ok(Ok(record)) => Ok(record),
        Ok(Err(source)) => Err(RunError::Job {
            job: job.canonical(),
            source,
        }),
        Err(payload) => Err(RunError::Panicked {
            job: job.canonical(),
            message: message(&*payload),
        }),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use recall_theory::Setting;

    use super::*;
    use crate::job::Configuration;
    use crate::progress::Silent;

    fn jobs(n: u64) -> Vec<Job> {
        let mut config = Configuration::of(&Setting::new(32, 8, 4, 64));
        config.test_sequences = 32;
        (0..n)
            .map(|seed| Job {
                config,
                seed,
                paired: vec![],
            })
            .collect()
    }

    fn options(threads: usize) -> RunOptions<'static> {
        RunOptions {
            threads,
            ..RunOptions::default()
        }
    }

    #[test]
    fn a_panic_is_an_error_and_jobs_in_flight_are_stored() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let started = AtomicUsize::new(0);
        let run = |job: &Job| {
            started.fetch_add(1, atomic::Ordering::Relaxed);
            assert!(job.seed != 0, "seed zero");
            thread::sleep(Duration::from_millis(50));
            job.run()
        };
        let jobs = jobs(60);
        let error =
            run_jobs_by(jobs.clone(), &mut store, options(3), &mut Silent, &run).unwrap_err();
        assert!(matches!(error, RunError::Panicked { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("seed zero") && text.contains(&jobs[0].canonical()),
            "{text}"
        );
        let started = started.into_inner();
        assert!((3..60).contains(&started), "no further job starts");
        assert_eq!(store.len(), started - 1);
        let summary = run_jobs(jobs, &mut store, options(3), &mut Silent).unwrap();
        assert_eq!(
            (summary.skipped, summary.finished, summary.stopped),
            (started - 1, 61 - started, false)
        );
    }

    #[test]
    fn a_failing_job_is_an_error_too() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut jobs = jobs(3);
        jobs[1].config.test_sequences = 0;
        let error = run_jobs(jobs.clone(), &mut store, options(1), &mut Silent).unwrap_err();
        assert!(error.to_string().contains(&jobs[1].canonical()), "{error}");
        jobs[1].config = Configuration::of(&Setting::new(0, 8, 4, 64));
        let error = run_jobs(jobs, &mut store, options(1), &mut Silent).unwrap_err();
        assert!(matches!(error, RunError::Job { .. }), "{error}");
    }

    #[test]
    fn longest_first_within_the_memory_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        let mut jobs = jobs(9);
        for job in &mut jobs {
            job.config.vocab = 32 << (job.seed % 3);
        }
        let limit = 2.5 * jobs.iter().map(|j| j.cost().bytes).fold(0.0, f64::max);
        let state = Mutex::new((0.0, 0, 0));
        let order = Mutex::new(Vec::new());
        let run = |job: &Job| {
            let bytes = job.cost().bytes;
            {
                let mut s = state.lock().unwrap();
                *s = (s.0 + bytes, s.1 + 1, s.2.max(s.1 + 1));
                assert!(s.0 <= limit);
            }
            order.lock().unwrap().push(job.config.vocab);
            thread::sleep(Duration::from_millis(20));
            let record = job.run();
            let mut s = state.lock().unwrap();
            *s = (s.0 - bytes, s.1 - 1, s.2);
            record
        };
        let bounded = RunOptions {
            memory_limit_bytes: Some(limit),
            ..options(4)
        };
        let summary = run_jobs_by(jobs, &mut store, bounded, &mut Silent, &run).unwrap();
        assert_eq!(summary.finished, 9);
        assert_eq!(state.into_inner().unwrap().2, 2);
        let order = order.into_inner().unwrap();
        assert_eq!((order[0], order[8]), (128, 32));
    }
}
