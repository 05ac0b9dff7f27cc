//! Observers of a run: none, a bar for a terminal, lines for a log.

use std::fmt;
use std::io::{self, IsTerminal, Stderr, Write};
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::clock::Moment;
use crate::job::Job;
use crate::runner::{Observer, Plan};

/// Least time between two lines of [`Lines::stderr`].
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The observer that suits standard error: a bar if it is a terminal, else lines.
#[must_use]
pub fn on_stderr() -> Box<dyn Observer> {
    if io::stderr().is_terminal() {
        Box::new(Bar::default())
    } else {
        Box::new(Lines::stderr())
    }
}

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Counts jobs, and weighs them by their estimated cost: the longest run first, so their number
/// alone says little about the time left.
#[derive(Debug)]
struct Tally {
    plan: Plan,
    begin: Moment,
    ended: usize,
    core_seconds: f64,
}

impl Tally {
    fn new(plan: &Plan) -> Self {
        Tally {
            plan: *plan,
            begin: Moment::now(),
            ended: 0,
            core_seconds: 0.0,
        }
    }

    fn add(&mut self, job: &Job) {
        self.ended += 1;
        self.core_seconds += job.cost().seconds;
    }

    /// From the pace so far, or from the estimate while nothing has ended.
    fn seconds_left(&self) -> f64 {
        let left = (self.plan.core_seconds - self.core_seconds).max(0.0);
        if self.core_seconds > 0.0 {
            self.begin.elapsed().as_secs_f64() * left / self.core_seconds
        } else {
            self.plan.seconds()
        }
    }

    fn opening(&self) -> String {
        let Plan {
            total,
            skipped,
            threads,
            ..
        } = self.plan;
        let (n, left) = (self.plan.to_run(), duration(self.plan.seconds()));
        format!(
            "{total} jobs, {skipped} done before, {n} to run on {threads} threads, about {left}"
        )
    }
}

fn duration(seconds: f64) -> HumanDuration {
    HumanDuration(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// A bar on standard error; shows nothing where that is no terminal.
#[derive(Debug, Default)]
pub struct Bar(Option<(ProgressBar, Tally)>);

impl Observer for Bar {
    fn started(&mut self, plan: &Plan) {
        let tally = Tally::new(plan);
        let bar = ProgressBar::new(plan.total as u64);
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} jobs, {msg}")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(tally.opening());
        bar.set_position(plan.skipped as u64);
        bar.enable_steady_tick(Duration::from_millis(500)); // the clock goes on inside long jobs
        self.0 = Some((bar, tally));
    }

    fn finished(&mut self, job: &Job, _seconds: f64) {
        if let Some((bar, tally)) = &mut self.0 {
            tally.add(job);
            bar.set_message(format!("{} left", duration(tally.seconds_left())));
            bar.inc(1);
        }
    }

    fn done(&mut self) {
        if let Some((bar, _)) = self.0.take() {
            bar.abandon_with_message("done"); // leaves the count it reached on the screen
        }
    }
}

/// Plain lines, one at the start, one at the end, and between them at most one per interval.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    interval: Duration,
    run: Option<(Tally, Moment)>,
}

impl Lines<Stderr> {
    /// Lines on standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Lines::new(io::stderr(), LINE_EVERY)
    }
}

impl<W: Write> Lines<W> {
    /// Lines on any writer.
    pub fn new(out: W, interval: Duration) -> Self {
        Lines {
            out,
            interval,
            run: None,
        }
    }
}

fn say(out: &mut impl Write, text: fmt::Arguments<'_>) {
    // A closed log must not end the run.
    let _ = writeln!(out, "{text}");
}

impl<W: Write> Observer for Lines<W> {
    fn started(&mut self, plan: &Plan) {
        let tally = Tally::new(plan);
        say(&mut self.out, format_args!("{}", tally.opening()));
        self.run = Some((tally, Moment::now()));
    }

    fn finished(&mut self, job: &Job, _seconds: f64) {
        let Some((tally, last)) = &mut self.run else {
            return;
        };
        tally.add(job);
        if last.elapsed() >= self.interval {
            *last = Moment::now();
            let (n, of) = (tally.plan.skipped + tally.ended, tally.plan.total);
            let left = duration(tally.seconds_left());
            say(&mut self.out, format_args!("{n}/{of} jobs, {left} left"));
        }
    }

    fn done(&mut self) {
        if let Some((tally, _)) = self.run.take() {
            let (n, of) = (tally.plan.skipped + tally.ended, tally.plan.total);
            let took = duration(tally.begin.elapsed().as_secs_f64());
            say(
                &mut self.out,
                format_args!("{n}/{of} jobs done after {took}"),
            );
        }
    }
}
