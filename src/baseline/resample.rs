//! Two runs made of one, to measure how often [`super::drift`] raises a false alarm.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::experiment::{Records, jobs};
use crate::job::{Job, Record};
use crate::spec::{Experiment, Profile};

/// One half of a stored run: the seeds of each experiment are dealt at random to two hands, and
/// each hand plays as a run of half as many seeds. Nothing differs between the two but chance, no
/// trial is in both and none twice. Searches stay where the whole run has placed them; the hand
/// measures at their levels.
pub struct Hand<'a> {
    whole: &'a dyn Records,
    /// Keys of its jobs.
    dealt: HashSet<String>,
}

impl Records for Hand<'_> {
    fn get(&self, job: &Job) -> Option<&Record> {
        self.whole.get(job)
    }

    fn measured(&self, job: &Job) -> Option<&Record> {
        self.dealt
            .contains(&job.key())
            .then(|| self.whole.get(job))?
    }
}

/// Deals the records of a run into two hands; `seed` shuffles.
#[must_use]
pub fn deal<'a>(
    profile: Profile,
    experiments: &[Experiment],
    whole: &'a dyn Records,
    seed: u64,
) -> [Hand<'a>; 2] {
    // Experiments that share trials are dealt together.
    let mut group: Vec<usize> = (0..experiments.len()).collect();
    let mut trials: BTreeMap<String, (Job, usize)> = BTreeMap::new();
    // Experiments that use a seed, by group and seed.
    let mut users: Vec<(usize, u64)> = Vec::new();
    for (i, e) in experiments.iter().enumerate() {
        let Some(design) = e.design(profile) else {
            continue;
        };
        for job in jobs(e, design, whole) {
            users.push((i, job.seed));
            let (_, first) = trials.entry(job.key()).or_insert_with(|| (job, i));
            let (old, new) = (group[i], group[*first]);
            for g in &mut group {
                if *g == old {
                    *g = new;
                }
            }
        }
    }
    // Each experiment gets half of its own seeds: a deck holds the seeds that the same ones use.
    let mut used_by: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
    for (i, seed) in users {
        let list = used_by.entry((group[i], seed)).or_default();
        if list.last() != Some(&i) {
            list.push(i);
        }
    }
    let mut decks: BTreeMap<(usize, Vec<usize>), Vec<u64>> = BTreeMap::new();
    for ((group, seed), users) in used_by {
        decks.entry((group, users)).or_default().push(seed);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut holder: HashMap<(usize, u64), usize> = HashMap::new();
    for ((group, _), mut cards) in decks {
        for i in (1..cards.len()).rev() {
            cards.swap(i, rng.random_range(0..=i));
        }
        let half = cards.len() / 2;
        for (i, seed) in cards.into_iter().take(2 * half).enumerate() {
            holder.insert((group, seed), i / half);
        }
    }
    let mut hands = [HashSet::new(), HashSet::new()];
    for (key, (job, first)) in trials {
        if let Some(&hand) = holder.get(&(group[first], job.seed)) {
            hands[hand].insert(key);
        }
    }
    hands.map(|dealt| Hand { whole, dealt })
}
