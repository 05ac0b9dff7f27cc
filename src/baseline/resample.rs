//! Two runs made of one, to measure how often [`super::drift`] raises a false alarm.

use std::collections::{BTreeMap, HashMap};

use rand::RngExt as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::experiment::{Records, jobs};
use crate::job::{Job, Record};
use crate::spec::{Experiment, Profile};

/// One half of a stored run: the seeds of each configuration are dealt at random to two hands, and
/// each hand plays as a run of half as many seeds. Nothing differs between the two but chance, no
/// trial is in both and none twice. Searches stay where the whole run has placed them; the hand
/// measures at their levels.
pub struct Hand<'a> {
    whole: &'a dyn Records,
    /// Stored seed behind a job of the hand, by the job's key.
    dealt: HashMap<String, Job>,
}

impl Records for Hand<'_> {
    fn get(&self, job: &Job) -> Option<&Record> {
        self.whole.get(job)
    }

    fn measured(&self, job: &Job) -> Option<&Record> {
        self.whole.get(self.dealt.get(&job.key())?)
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
    // Jobs by configuration and by the experiments that use them, so that each experiment gets half
    // of its own seeds.
    let mut users: BTreeMap<String, (Job, Vec<usize>)> = BTreeMap::new();
    for (i, e) in experiments.iter().enumerate() {
        let Some(design) = e.design(profile) else {
            continue;
        };
        for job in jobs(e, design, whole) {
            let (_, users) = users
                .entry(job.key())
                .or_insert_with(|| (job, Vec::new()));
            if users.last() != Some(&i) {
                users.push(i);
            }
        }
    }
    let mut decks: BTreeMap<(String, Vec<usize>), Vec<Job>> = BTreeMap::new();
    for (job, users) in users.into_values() {
        let of_config = Job {
            seed: 0,
            ..job.clone()
        };
        decks.entry((of_config.key(), users)).or_default().push(job);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut hands = [HashMap::new(), HashMap::new()];
    for mut cards in decks.into_values() {
        for i in (1..cards.len()).rev() {
            cards.swap(i, rng.random_range(0..=i));
        }
        let half = cards.len() / 2;
        for (hand, cards) in hands.iter_mut().zip([&cards[..half], &cards[half..2 * half]]) {
            hand.extend(cards.iter().map(|job| (job.key(), job.clone())));
        }
    }
    hands.map(|dealt| Hand { whole, dealt })
}
