//! Results of one run directory: an append-only journal and the final file made from it.
//!
//! `journal.jsonl` takes one line per finished job, in the order of finishing:
//! `{"check":"<16 hex>","record":{...}}`, where `check` starts the SHA-256 hash of the record's
//! text. A line counts once its newline is there and its check holds, so whatever a killed
//! process leaves half-written is recognised, and cut off before the next line is appended.
//!
//! `measurements.jsonl` is written from the journal in one step: plain records, in the order the
//! caller gives. Its bytes depend on neither threads, order of finishing nor restarts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::clock::Moment;
use crate::files;
use crate::job::{Job, Record, SCHEMA};
use crate::rng::{RNG_SCHEME, sha256_hex};

/// Name of the journal inside a run directory.
pub const JOURNAL: &str = "journal.jsonl";
/// Name of the final file inside a run directory.
pub const MEASUREMENTS: &str = "measurements.jsonl";
/// Name under which the final file is written before it is moved into place.
const UNFINISHED: &str = "measurements.jsonl.tmp";

/// The journal reaches the disk at least this often. A killed process loses no line that was
/// written; this bounds what a power failure can take.
const SYNC_EVERY: Duration = Duration::from_secs(1);

const HEAD: &str = r#"{"check":""#;
const MIDDLE: &str = r#"","record":"#;
const CHECK_LEN: usize = 16;

/// Why a store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}; {}", path.display(), advice(source.kind()))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// File or directory.
        path: PathBuf,
        /// Its reason.
        source: io::Error,
    },
    /// Another store holds the journal.
    #[error(
        "{} is in use by another run: wait until it ends or choose another output directory",
        path.display()
    )]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// The journal or final file is a directory, device or pipe.
    #[error("{} is not a regular file: move it away or choose another directory", path.display())]
    NotAFile {
        /// What stands there.
        path: PathBuf,
    },
    /// A final file holds a line that is no valid record.
    #[error(
        "{}, line {line}: {why}; restore the file or make it anew with a run",
        path.display()
    )]
    Damaged {
        /// The final file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The store was opened for reading.
    #[error("{} was opened for reading only: open its directory to add to it", path.display())]
    ReadOnly {
        /// The final file.
        path: PathBuf,
    },
    /// The final file would be incomplete.
    #[error(
        "{} not written: {count} of its jobs are not finished, the first being {first}; run them first",
        path.display()
    )]
    Missing {
        /// The final file.
        path: PathBuf,
        /// Number of jobs without a record.
        count: usize,
        /// Canonical text of the first one.
        first: String,
    },
    /// The same job on the same kernel gave another outcome.
    #[error(
        "{} holds another outcome for the job {job}, made by the same kernel: outcomes must repeat, \
         so one of the two programs differs; use a new directory and report this",
        path.display()
    )]
    Conflict {
        /// The journal.
        path: PathBuf,
        /// Canonical text of the job.
        job: String,
    },
    /// A record that could not be read back.
    #[error("record of the job {job} not added to {}: {why}; report this", path.display())]
    Unstorable {
        /// The journal.
        path: PathBuf,
        /// Canonical text of the job.
        job: String,
        /// What is wrong with it.
        why: String,
    },
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free some space and start again: finished jobs are kept"
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "make it writable or choose another directory"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists | ErrorKind::IsADirectory => {
            "a file stands where a directory is needed, or the reverse: choose another path"
        }
        ErrorKind::NotFound => "check the path, or run the experiment first",
        _ => "remove the cause and start again: finished jobs are kept",
    }
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// What loading set aside. Nothing of it is deleted but the torn tail, and that only when the next
/// line is appended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aside {
    /// Lines (from 1) that are no whole record or fail their check; their jobs run again.
    pub damaged: Vec<usize>,
    /// Lines with a second, different outcome of a job on the same kernel; the first one is kept.
    pub conflicting: Vec<usize>,
    /// Number of records of another layout or random-number scheme.
    pub other_version: usize,
    /// Number of records whose key is not that of their job.
    pub other_key: usize,
    /// Length in bytes of an unfinished last line.
    pub torn: u64,
}

impl Aside {
    /// One sentence for each kind of line set aside; empty if there is none.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.damaged.is_empty() {
            notes.push(format!(
                "{} skipped as damaged: their jobs run again",
                lines(&self.damaged)
            ));
        }
        if !self.conflicting.is_empty() {
            notes.push(format!(
                "{} skipped: another outcome of a job that stands further up, by the same kernel",
                lines(&self.conflicting)
            ));
        }
        if self.other_version > 0 {
            notes.push(format!(
                "{} ignored: other record layout or random-number scheme (this program: {SCHEMA} and {RNG_SCHEME})",
                records(self.other_version)
            ));
        }
        if self.other_key > 0 {
            notes.push(format!(
                "{} ignored: the key is not that of the job",
                records(self.other_key)
            ));
        }
        if self.torn > 0 {
            notes.push(format!(
                "unfinished last line ({} bytes) ignored: its job runs again",
                self.torn
            ));
        }
        notes
    }
}

fn lines(numbers: &[usize]) -> String {
    const SHOWN: usize = 10;
    let list: Vec<_> = numbers.iter().take(SHOWN).map(usize::to_string).collect();
    let more = if numbers.len() > SHOWN { ", ..." } else { "" };
    let s = if numbers.len() == 1 { "" } else { "s" };
    format!("{} line{s} ({}{more})", numbers.len(), list.join(", "))
}

fn records(n: usize) -> String {
    format!("{n} record{}", if n == 1 { "" } else { "s" })
}

/// What [`Store::finalise`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finalised {
    /// Number of records in the file.
    pub records: usize,
    /// Number of records of the journal that were not asked for.
    pub left_out: usize,
}

/// Finished jobs of one run directory, or of one final file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    journal: Option<Journal>,
    records: Vec<Record>,
    by_key: HashMap<String, usize>,
    aside: Aside,
}

impl Store {
    /// Opens the results in a directory, made if absent, and keeps every other process out until
    /// the store is dropped.
    ///
    /// # Errors
    /// If the directory cannot be written, another store holds it, or its journal cannot be read.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        files::create_dir_all(dir).map_err(io_error("make the directory", dir))?;
        let path = dir.join(JOURNAL);
        refuse_special(&path)?;
        let is_new = !path.exists();
        let file = files::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        file.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => StoreError::Locked { path: path.clone() },
            TryLockError::Error(source) => io_error("lock", &path)(source),
        })?;
        let mut journal = Journal {
            file,
            end: 0,
            excess: false,
            unsynced: true, // what a killed process left may be
            synced: Moment::now(),
        };
        if is_new {
            sync_directory(dir);
        }

        let mut store = Store::empty(path.clone());
        let mut end = 0;
        each_line(&journal.file, &path, |number, line, whole| {
            if !whole {
                store.aside.torn = line.len() as u64;
                return Ok(());
            }
            end += line.len() as u64 + 1;
            match unseal(line).map_or_else(|| Line::damaged("the check fails"), Line::parse) {
                Line::Record(record) => {
                    if store.add(*record) == Added::Conflict {
                        store.aside.conflicting.push(number);
                    }
                }
                Line::OtherVersion => store.aside.other_version += 1,
                Line::OtherKey => store.aside.other_key += 1,
                Line::Damaged(_) => store.aside.damaged.push(number),
            }
            Ok(())
        })?;
        journal.end = end;
        journal.excess = store.aside.torn > 0;
        store.journal = Some(journal);
        Ok(store)
    }

    /// Reads a final file without locking or changing anything.
    ///
    /// # Errors
    /// If it cannot be read, or a line is damaged, repeated or bears a wrong key. Records of
    /// another version are set aside, see [`Store::aside`].
    pub fn read_only(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        refuse_special(path)?;
        let file = File::open(path).map_err(io_error("open", path))?;
        let mut store = Store::empty(path.to_owned());
        each_line(&file, path, |line, bytes, whole| {
            let damaged = |why: &str| StoreError::Damaged {
                path: path.to_owned(),
                line,
                why: why.to_owned(),
            };
            if !whole {
                return Err(damaged("the file ends inside this line"));
            }
            let text = str::from_utf8(bytes).map_err(|_| damaged("not UTF-8"))?;
            match Line::parse(text) {
                Line::Record(record) => match store.add(*record) {
                    Added::New => Ok(()),
                    Added::Known | Added::Conflict => Err(damaged("its job stands further up")),
                },
                Line::OtherVersion => {
                    store.aside.other_version += 1;
                    Ok(())
                }
                Line::OtherKey => Err(damaged("the key is not that of the job")),
                Line::Damaged(why) => Err(damaged(&why)),
            }
        })?;
        Ok(store)
    }

    fn empty(path: PathBuf) -> Self {
        Store {
            path,
            journal: None,
            records: Vec::new(),
            by_key: HashMap::new(),
            aside: Aside::default(),
        }
    }

    /// The journal, or the final file of a store opened for reading.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was set aside while loading.
    #[must_use]
    pub fn aside(&self) -> &Aside {
        &self.aside
    }

    /// The record with a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Record> {
        self.by_key.get(key).map(|&i| &self.records[i])
    }

    /// The record of a job.
    #[must_use]
    pub fn get_job(&self, job: &Job) -> Option<&Record> {
        self.get(&job.key())
    }

    /// All records, in the order of the file and then of insertion.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &Record> {
        self.records.iter()
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Number of records that each kernel made.
    #[must_use]
    pub fn kernels(&self) -> BTreeMap<&str, usize> {
        let mut kernels = BTreeMap::new();
        for record in &self.records {
            *kernels.entry(record.kernel.as_str()).or_default() += 1;
        }
        kernels
    }

    /// Appends a record to the journal; whether it was new. Once this returns, the record survives
    /// the end of the process. Of a job already there, the first record is kept.
    ///
    /// # Errors
    /// If the journal cannot be written (the store stays as it was), the record could not be read
    /// back, or the job is there with another outcome by the same kernel.
    pub fn insert(&mut self, record: Record) -> Result<bool, StoreError> {
        let Some(journal) = &mut self.journal else {
            let path = self.path.clone();
            return Err(StoreError::ReadOnly { path });
        };
        let text = match readable(&record) {
            Ok(text) => text,
            Err(why) => {
                return Err(StoreError::Unstorable {
                    path: self.path.clone(),
                    job: record.job.canonical(),
                    why,
                });
            }
        };
        if !self.by_key.contains_key(&record.key) {
            journal
                .append(&seal(&text))
                .map_err(io_error("append to", &self.path))?;
        }
        let job = record.job.clone();
        match self.add(record) {
            Added::New => {
                self.sync_if_older_than(SYNC_EVERY)?;
                Ok(true)
            }
            Added::Known => Ok(false),
            Added::Conflict => Err(StoreError::Conflict {
                path: self.path.clone(),
                job: job.canonical(),
            }),
        }
    }

    fn add(&mut self, record: Record) -> Added {
        if let Some(known) = self.get(&record.key) {
            return if known.outcome != record.outcome && known.kernel == record.kernel {
                Added::Conflict
            } else {
                Added::Known
            };
        }
        self.by_key.insert(record.key.clone(), self.records.len());
        self.records.push(record);
        Added::New
    }

    /// Makes sure that all records have reached the disk.
    ///
    /// # Errors
    /// If the operating system reports a failed write.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.sync_if_older_than(Duration::ZERO)
    }

    fn sync_if_older_than(&mut self, age: Duration) -> Result<(), StoreError> {
        if let Some(journal) = &mut self.journal
            && journal.unsynced
            && journal.synced.elapsed() >= age
        {
            journal
                .file
                .sync_data()
                .map_err(io_error("write", &self.path))?;
            journal.unsynced = false;
            journal.synced = Moment::now();
        }
        Ok(())
    }

    /// Writes the final file: the records of these jobs in this order, each once. The file is
    /// replaced in one step; on any error it stays as it was.
    ///
    /// # Errors
    /// If a job has no record or the file cannot be written.
    pub fn finalise(&mut self, order: &[Job]) -> Result<Finalised, StoreError> {
        let path = self.path.with_file_name(MEASUREMENTS);
        if self.journal.is_none() {
            return Err(StoreError::ReadOnly { path });
        }
        self.sync()?;
        let mut seen = HashSet::new();
        let mut chosen = Vec::new();
        let mut missing = Vec::new();
        for job in order {
            let key = job.key();
            match self.by_key.get(&key) {
                _ if seen.contains(&key) => {}
                Some(&i) => chosen.push(&self.records[i]),
                None => missing.push(job),
            }
            seen.insert(key);
        }
        if let Some(first) = missing.first() {
            return Err(StoreError::Missing {
                path,
                count: missing.len(),
                first: first.canonical(),
            });
        }
        let unfinished = path.with_file_name(UNFINISHED);
        let result = write_lines(&unfinished, &chosen)
            .map_err(io_error("write", &unfinished))
            .and_then(|()| {
                fs::rename(&unfinished, &path).map_err(io_error("move the new file onto", &path))
            });
        if let Err(e) = result {
            // The error that matters is the first; a leftover is overwritten next time.
            let _ = fs::remove_file(&unfinished);
            return Err(e);
        }
        if let Some(dir) = path.parent() {
            sync_directory(dir);
        }
        Ok(Finalised {
            records: chosen.len(),
            left_out: self.len() - chosen.len(),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    New,
    Known,
    Conflict,
}

/// The open and locked journal.
#[derive(Debug)]
struct Journal {
    file: File,
    /// Where the last whole line ends.
    end: u64,
    /// Whether something half-written may follow.
    excess: bool,
    /// Whether lines may have reached only the system's memory.
    unsynced: bool,
    synced: Moment,
}

impl Journal {
    fn append(&mut self, line: &str) -> io::Result<()> {
        if self.excess {
            self.file.set_len(self.end)?;
        }
        self.excess = true;
        self.unsynced = true;
        if let Err(e) = (&self.file).write_all(line.as_bytes()) {
            self.excess = self.file.set_len(self.end).is_err();
            return Err(e);
        }
        self.excess = false;
        self.end += line.len() as u64;
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Closing alone would leave the lock to a child process that another thread has just
        // forked and that has not yet closed its copy.
        let _ = self.file.unlock();
    }
}

/// What a line of a journal (unsealed) or final file holds.
enum Line {
    Record(Box<Record>),
    OtherVersion,
    OtherKey,
    Damaged(String),
}

impl Line {
    fn damaged(why: &str) -> Self {
        Line::Damaged(why.to_owned())
    }

    fn parse(text: &str) -> Self {
        /// The part of a record that every version has.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
            rng_scheme: u32,
        }
        let here = |schema, rng_scheme| (schema, rng_scheme) == (SCHEMA, RNG_SCHEME);
        match serde_json::from_str::<Record>(text) {
            Ok(r) if !here(r.schema, r.rng_scheme) => Line::OtherVersion,
            Ok(r) if r.key != r.job.key() => Line::OtherKey,
            Ok(r) => Line::Record(Box::new(r)),
            Err(e) => match serde_json::from_str::<Version>(text) {
                Ok(v) if !here(v.schema, v.rng_scheme) => Line::OtherVersion,
                _ => Line::Damaged(format!("not a record: {e}")),
            },
        }
    }
}

/// Text of a record, once it is sure that it reads back as the same.
fn readable(record: &Record) -> Result<String, String> {
    let text = serde_json::to_string(record).map_err(|e| e.to_string())?;
    match Line::parse(&text) {
        Line::Record(back) if *back == *record => Ok(text),
        Line::Record(_) => Err("it reads back as another record".into()),
        Line::OtherVersion => Err("other record layout or random-number scheme".into()),
        Line::OtherKey => Err("the key is not that of the job".into()),
        Line::Damaged(why) => Err(format!("it does not read back ({why})")),
    }
}

fn check_of(text: &str) -> String {
    let mut hash = sha256_hex(text);
    hash.truncate(CHECK_LEN);
    hash
}

fn seal(text: &str) -> String {
    format!("{HEAD}{}{MIDDLE}{text}}}\n", check_of(text))
}

/// The record's text if the check holds.
fn unseal(line: &[u8]) -> Option<&str> {
    let rest = str::from_utf8(line).ok()?.strip_prefix(HEAD)?;
    let (check, rest) = rest.split_at_checked(CHECK_LEN)?;
    let text = rest.strip_prefix(MIDDLE)?.strip_suffix('}')?;
    (check == check_of(text)).then_some(text)
}

/// Hands on each line with its number (from 1), and whether a newline ends it.
fn each_line(
    file: &File,
    path: &Path,
    mut line: impl FnMut(usize, &[u8], bool) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let n = reader
            .read_until(b'\n', &mut bytes)
            .map_err(io_error("read", path))?;
        if n == 0 {
            break;
        }
        let whole = bytes.pop_if(|b| *b == b'\n').is_some();
        line(number, &bytes, whole)?;
    }
    Ok(())
}

/// Reading a device or pipe might never end.
fn refuse_special(path: &Path) -> Result<(), StoreError> {
    match fs::metadata(path) {
        Ok(m) if !m.is_file() => Err(StoreError::NotAFile {
            path: path.to_owned(),
        }),
        _ => Ok(()), // opening it tells what is wrong
    }
}

fn write_lines(path: &Path, records: &[&Record]) -> io::Result<()> {
    let file = files::options()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    let mut out = BufWriter::new(file);
    for record in records {
        serde_json::to_writer(&mut out, record)?;
        out.write_all(b"\n")?;
    }
    out.into_inner()?.sync_all()
}

/// Makes a new name in a directory durable, where the system can.
fn sync_directory(dir: &Path) {
    if cfg!(unix) {
        // Not every file system can; the names are then as durable as it makes them.
        let _ = File::open(dir).and_then(|d| d.sync_all());
    }
}
