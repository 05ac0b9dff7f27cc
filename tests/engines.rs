//! The two engines against each other, and the counting engine against definitions: the literal
//! sums over samples, and the enumeration of all sequences in place of the population.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use proptest::prelude::*;
use recall_capacity::descent::early::{
    self, Count, EarlyState, NoiseParts, Outcome, Training, Trial,
};
use recall_capacity::descent::exact::{self, ExactTrial};
use recall_capacity::descent::{Rates, exact::Problem};
use recall_capacity::embedding::{Embeddings, Table};
use recall_capacity::linalg::Matrix;
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation, Stream};
use recall_theory::attention::nominal_signal;
use recall_theory::{Attention, Embedding, Labels, Samples, Setting};

/// Everything that a trial draws.
#[derive(Clone)]
struct World {
    setting: Setting,
    embeddings: Embeddings<f64>,
    query: Vec<f64>,
    permutation: Permutation,
    train: Batch,
    test: Batch,
}

impl World {
    fn draw(setting: Setting, name: &str) -> Self {
        let key = StreamKey::from_text(name);
        let embeddings = Embeddings::draw(&setting, &key);
        let query = embeddings.draw_query(setting.input, &key);
        let permutation = Permutation::random(setting.vocab, &mut key.stream(Purpose::Permutation));
        let Samples::Finite(n) = setting.samples else {
            panic!("a finite batch is needed")
        };
        let draw = |purpose, n, labels| {
            Batch::draw(
                &mut key.stream(purpose),
                &permutation,
                setting.len,
                n,
                labels,
            )
        };
        let train = draw(Purpose::Train, n as usize, setting.labels);
        let test = draw(Purpose::Test, 500, Labels::Iid);
        World {
            setting,
            embeddings,
            query,
            permutation,
            train,
            test,
        }
    }

    fn early(&self, training: Training<'_>, decompose: bool) -> (Outcome, EarlyState<f64>) {
        early::run(&Trial {
            setting: &self.setting,
            embeddings: &self.embeddings,
            permutation: &self.permutation,
            training,
            test: &self.test,
            decompose,
        })
    }

    fn on_batch(&self) -> (Outcome, EarlyState<f64>) {
        self.early(Training::Batch(&self.train), false)
    }

    fn unit(&self) -> f64 {
        (self.setting.len as f64).powi(2) * self.setting.vocab as f64
    }

    /// Gain per unit of score that the exact engine uses in place of saturation.
    fn gain(&self) -> f64 {
        match self.setting.attention {
            Attention::Argmax => 1e9,
            Attention::Strength(g) => g / nominal_signal(&self.setting),
        }
    }
}

/// Dense and orthonormal tables on each side.
fn tables() -> impl Iterator<Item = (Embedding, Embedding)> {
    let laws = [Embedding::Gaussian, Embedding::Orthonormal];
    laws.into_iter()
        .flat_map(move |i| laws.into_iter().map(move |o| (i, o)))
}

fn relative(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// What the exact engine says at one `eta`: scores of `q` in units of `S0`, and `V2 - V1` per
/// unit of `gamma_v` (the columns that the early engine stores).
struct AtEta {
    scores: Vec<f64>,
    value: Option<Vec<f64>>,
    trial: ExactTrial<f64>,
}

/// `relative_eta` is `eta / (L^2 V)`.
fn exact_at(world: &World, relative_eta: f64, want: &EarlyState<f64>) -> AtEta {
    let norm2: f64 = world.query.iter().map(|x| x * x).sum();
    let rates = Rates {
        eta: relative_eta * world.unit(),
        gamma_w: world.gain() / (norm2 * relative_eta),
        gamma_v: 1.0,
    };
    let carried = world.setting.trigger_in_values;
    let (train, test) = (&world.train, &world.test);
    let trial = exact::run(&world.embeddings, &world.query, train, test, rates, carried).unwrap();
    let problem = Problem::new(&world.embeddings, &world.query, train, carried).unwrap();
    let state = exact::State {
        value: trial.value_1.clone(),
        query_key: trial.query_key_1.clone(),
    };
    let (mut scores, trigger) = exact::attention_scores(&problem, &state);
    scores.push(trigger);
    scores.iter_mut().for_each(|x| *x /= world.gain());
    let value = want.value.as_ref().map(|v| {
        let mut value = Vec::new();
        for i in 0..v.rows() {
            let (two, one) = (trial.value_2.row(i), trial.value_1.row(i));
            let step = two.iter().zip(one).map(|(a, b)| (a - b) / rates.gamma_v);
            value.extend(step.take(v.cols()));
        }
        value
    });
    AtEta {
        scores,
        value,
        trial,
    }
}

/// Accuracy of `V2` alone: what a huge `gamma_v` leaves.
fn accuracy_of_step_three(world: &World, at: &AtEta) -> (usize, usize) {
    let carried = world.setting.trigger_in_values;
    let problem = Problem::new(&world.embeddings, &world.query, &world.test, carried).unwrap();
    let mut value = at.trial.value_2.clone();
    for (two, one) in value.data_mut().iter_mut().zip(at.trial.value_1.data()) {
        *two -= one;
    }
    let query_key = at.trial.query_key_1.clone();
    let seen = exact::evaluate(&problem, &exact::State { value, query_key });
    (seen.correct, seen.attention_hits)
}

#[test]
fn engines_agree_in_the_limit_of_small_steps() {
    let mut cases = 0;
    let mut worst = (f64::INFINITY, 0.0f64, 0.0f64);
    for (input, output) in tables() {
        for carried in [false, true] {
            for labels in [Labels::Iid, Labels::Balanced] {
                for attention in [Attention::Strength(6.0), Attention::Argmax] {
                    let setting = Setting {
                        labels,
                        trigger_in_values: carried,
                        attention,
                        ..Setting::new(24, 12, 6, 300).with_embeddings(input, output)
                    };
                    let world = World::draw(setting, "limit");
                    let (outcome, want) = world.on_batch();
                    let mut scores = want.token_scores.clone();
                    scores.push(want.trigger_score);
                    let at = [1e-3, 1e-4, 1e-5].map(|eta| exact_at(&world, eta, &want));
                    let mut check = |name: &str, want: &[f64], at: [&[f64]; 3]| {
                        let gap = at.map(|x| relative(x, want));
                        // Linear in eta: tenfold smaller each time, up to the quadratic term.
                        let slopes = [gap[0] / gap[1], gap[1] / gap[2]];
                        assert!(
                            (slopes[0] - 10.0).abs() < 0.2,
                            "{setting:?} {name}: {gap:?}"
                        );
                        assert!(
                            (slopes[1] - 10.0).abs() < 0.02,
                            "{setting:?} {name}: {gap:?}"
                        );
                        // Extrapolated to eta = 0: only a quadratic term in eta = 1e-4 is left.
                        let limit: Vec<f64> = at[1]
                            .iter()
                            .zip(at[2])
                            .map(|(a, b)| b - (a - b) / 9.0)
                            .collect();
                        let left = relative(&limit, want);
                        assert!(
                            left < 2e-7 && left < 0.01 * gap[2],
                            "{setting:?} {name}: {left} of {gap:?}"
                        );
                        worst.0 = worst.0.min(slopes[0].min(slopes[1]));
                        worst.1 = worst.1.max(slopes[0].max(slopes[1]));
                        worst.2 = worst.2.max(left);
                    };
                    check("q", &scores, [&at[0].scores, &at[1].scores, &at[2].scores]);
                    if let Some(value) = &want.value {
                        let at = at.each_ref().map(|x| x.value.as_ref().unwrap().as_slice());
                        check("V2", value.data(), at);
                    }
                    // Far smaller, since two labels may come close to a tie on a token.
                    let last = exact_at(&world, 1e-8, &want);
                    let (correct, hits) = accuracy_of_step_three(&world, &last);
                    assert_eq!(hits as u64, outcome.attention.hits, "{setting:?}");
                    assert_eq!(correct as u64, outcome.accuracy.hits, "{setting:?}");
                    let train = outcome.train_attention.unwrap().hits;
                    assert_eq!(last.trial.train_attention_hits() as u64, train);
                    if let Some(weight) = outcome.attention_weight {
                        assert!((at[2].trial.test.attention_mean - weight).abs() < 1e-3);
                    }
                    let signal = at[2].trial.query_trigger_1 / world.gain();
                    assert!((signal / outcome.signal - 1.0).abs() < 1e-3, "{setting:?}");
                    cases += 1;
                }
            }
        }
    }
    println!(
        "{cases} cases: slopes {:.3} to {:.3}, largest extrapolated gap {:.1e}",
        worst.0, worst.1, worst.2
    );
}

/// The definitions with explicit vectors, sample by sample.
struct Naive {
    token_scores: Vec<f64>,
    trigger_score: f64,
    signal: f64,
    value: Vec<Vec<f64>>,
    attention: u64,
    accuracy: u64,
    one_step: u64,
    recall: u64,
    train_attention: u64,
    weight: f64,
    scale: f64,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn axpy(a: f64, x: &[f64], y: &mut [f64]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// Rows of a table as vectors, orthonormal ones in two dimensions more than there are tokens.
fn rows(table: &Table<f64>) -> Vec<Vec<f64>> {
    match table {
        Table::Dense(z) => (0..z.rows()).map(|v| z.row(v).to_vec()).collect(),
        Table::Orthonormal { vocab } => (0..*vocab)
            .map(|v| {
                (0..vocab + 2)
                    .map(|i| f64::from(u8::from(i == v)))
                    .collect()
            })
            .collect(),
    }
}

fn naive(world: &World) -> Naive {
    let s = &world.setting;
    let (z_in, z_out) = (
        rows(&world.embeddings.input),
        rows(&world.embeddings.output),
    );
    let (width, out) = (z_in[0].len(), z_out[0].len());
    let z_trig = world.embeddings.trigger.clone().unwrap_or_else(|| {
        (0..width)
            .map(|i| f64::from(u8::from(i == s.vocab)))
            .collect()
    });
    let v = s.vocab as f64;
    let key = |batch: &Batch, n: usize, i: usize, trigger: bool| {
        let mut k = z_in[batch.sequence(n)[i] as usize].clone();
        if trigger && batch.position[n] as usize == i {
            axpy(1.0, &z_trig, &mut k);
        }
        k
    };
    // Z_out^T (e_y - 1/V).
    let pull = |y: u32| {
        let mut c = z_out[y as usize].clone();
        z_out.iter().for_each(|z| axpy(-1.0 / v, z, &mut c));
        c
    };
    // V = (1/N) sum_n Z_out^T c_n h_n^T.
    let value_of = |alpha: &dyn Fn(usize) -> Vec<f64>| {
        let batch = &world.train;
        let mut value = vec![vec![0.0; width]; out];
        for n in 0..batch.samples() {
            let mut h = vec![0.0; width];
            for (i, a) in alpha(n).into_iter().enumerate() {
                axpy(a, &key(batch, n, i, s.trigger_in_values), &mut h);
            }
            for (row, c) in value.iter_mut().zip(pull(batch.label[n])) {
                axpy(c / batch.samples() as f64, &h, row);
            }
        }
        value
    };
    let image = |value: &[Vec<f64>], h: &[f64]| -> Vec<f64> {
        value.iter().map(|row| dot(row, h)).collect()
    };
    let best = |value: &[Vec<f64>], h: &[f64]| {
        let u = image(value, h);
        let logits: Vec<f64> = z_out.iter().map(|z| dot(z, &u)).collect();
        recall_capacity::linalg::argmax(&logits) as u32
    };
    let len = s.len as f64;
    let first = value_of(&|_| vec![1.0 / len; s.len]);
    // w = (1/N) sum_n (1/L) sum_i (k_{n,i} - kbar_n) s_{n,i}.
    let mut w = vec![0.0; width];
    let mut signal = 0.0;
    let batch = &world.train;
    let share = 1.0 / (batch.samples() as f64 * len);
    for n in 0..batch.samples() {
        let c = pull(batch.label[n]);
        let keys: Vec<_> = (0..s.len).map(|i| key(batch, n, i, true)).collect();
        let mut mean = vec![0.0; width];
        keys.iter().for_each(|k| axpy(1.0 / len, k, &mut mean));
        for (i, k) in keys.iter().enumerate() {
            let score = dot(&image(&first, &key(batch, n, i, s.trigger_in_values)), &c);
            axpy(share * score, k, &mut w);
            axpy(-share * score, &mean, &mut w);
            let own = f64::from(u8::from(i == batch.position[n] as usize));
            signal += share * score * (own - 1.0 / len);
        }
    }
    w.iter_mut().for_each(|x| *x *= world.unit());
    let attend = |batch: &Batch, n: usize| -> (Vec<f64>, usize) {
        let scores: Vec<f64> = (0..s.len)
            .map(|i| dot(&w, &key(batch, n, i, true)))
            .collect();
        let peak = recall_capacity::linalg::argmax(&scores);
        let alpha = match s.attention {
            Attention::Argmax => (0..s.len).map(|i| f64::from(u8::from(i == peak))).collect(),
            Attention::Strength(_) => {
                let e: Vec<f64> = scores
                    .iter()
                    .map(|x| (world.gain() * (x - scores[peak])).exp())
                    .collect();
                let total: f64 = e.iter().sum();
                e.iter().map(|x| x / total).collect()
            }
        };
        (alpha, peak)
    };
    let third = value_of(&|n| attend(&world.train, n).0);
    let saturated = value_of(&|n| {
        let mut alpha = vec![0.0; s.len];
        alpha[world.train.position[n] as usize] = 1.0;
        alpha
    });
    let (mut attention, mut accuracy, mut weight) = (0, 0, 0.0);
    for n in 0..world.test.samples() {
        let (alpha, peak) = attend(&world.test, n);
        attention += u64::from(peak == world.test.position[n] as usize);
        weight += alpha[world.test.position[n] as usize] / world.test.samples() as f64;
        let mut h = vec![0.0; width];
        for (i, a) in alpha.into_iter().enumerate() {
            axpy(a, &key(&world.test, n, i, s.trigger_in_values), &mut h);
        }
        accuracy += u64::from(best(&third, &h) == world.test.label[n]);
    }
    let train_attention = (0..batch.samples())
        .filter(|&n| attend(batch, n).1 == batch.position[n] as usize)
        .count() as u64;
    let (mut one_step, mut recall) = (0, 0);
    for (token, z) in (0u32..).zip(&z_in) {
        one_step += u64::from(best(&first, z) == world.permutation.label(token));
        let mut h = z.clone();
        if s.trigger_in_values {
            axpy(1.0, &z_trig, &mut h);
        }
        recall += u64::from(best(&saturated, &h) == world.permutation.label(token));
    }
    let token_scores: Vec<f64> = z_in.iter().map(|z| dot(&w, z)).collect();
    let trigger_score = dot(&w, &z_trig);
    Naive {
        scale: token_scores
            .iter()
            .fold(trigger_score.abs(), |m, x| m.max(x.abs())),
        token_scores,
        trigger_score,
        signal: signal * world.unit(),
        value: third,
        attention,
        accuracy,
        one_step,
        recall,
        train_attention,
        weight,
    }
}

#[test]
fn counting_agrees_with_the_definitions() {
    let mut largest = 0.0f64;
    for (input, output) in tables() {
        for (carried, labels, attention) in [
            (false, Labels::Iid, Attention::Argmax),
            (true, Labels::Iid, Attention::Argmax),
            (true, Labels::Balanced, Attention::Strength(5.0)),
            (false, Labels::Balanced, Attention::Strength(3.0)),
        ] {
            let setting = Setting {
                labels,
                trigger_in_values: carried,
                attention,
                ..Setting::new(21, 9, 5, 150).with_embeddings(input, output)
            };
            let world = World::draw(setting, "definitions");
            let ((outcome, state), want) = (world.on_batch(), naive(&world));
            let close = |a: f64, b: f64, scale: f64| {
                assert!(
                    (a - b).abs() <= 1e-10 * scale,
                    "{setting:?}: {a} is not {b}"
                );
                (a - b).abs() / scale
            };
            for (a, b) in state.token_scores.iter().zip(&want.token_scores) {
                largest = largest.max(close(*a, *b, want.scale));
            }
            largest = largest.max(close(state.trigger_score, want.trigger_score, want.scale));
            largest = largest.max(close(outcome.signal, want.signal, want.scale));
            if let Some(value) = &state.value {
                let scale = value.data().iter().fold(0.0f64, |m, x| m.max(x.abs()));
                for i in 0..value.rows() {
                    for (a, b) in value.row(i).iter().zip(&want.value[i]) {
                        largest = largest.max(close(*a, *b, scale));
                    }
                }
            }
            assert_eq!(outcome.attention.hits, want.attention, "{setting:?}");
            assert_eq!(
                outcome.train_attention.unwrap().hits,
                want.train_attention,
                "{setting:?}"
            );
            if let Some(weight) = outcome.attention_weight {
                close(weight, want.weight, 1.0);
            }
            let mean = want.token_scores.iter().sum::<f64>() / 21.0;
            let variance = want
                .token_scores
                .iter()
                .map(|x| (x - mean).powi(2))
                .sum::<f64>()
                / 21.0;
            close(outcome.spread_squared, variance, want.scale * want.scale);
            if (input, output) != (Embedding::Orthonormal, Embedding::Orthonormal) {
                // Logits tie exactly where both tables are orthonormal; rounding then decides.
                assert_eq!(outcome.accuracy.hits, want.accuracy, "{setting:?}");
                assert_eq!(outcome.one_step.hits, want.one_step, "{setting:?}");
                assert_eq!(outcome.recall.hits, want.recall, "{setting:?}");
            }
        }
    }
    println!("largest deviation from the definitions: {largest:.1e}");
}

#[test]
fn counting_agrees_beyond_one_block_of_labels() {
    // More labels than a block of rows holds; few samples, so that rows are sparse.
    for output in [Embedding::Gaussian, Embedding::Orthonormal] {
        let setting = Setting::new(300, 4, 3, 60).with_embeddings(Embedding::Gaussian, output);
        let world = World::draw(setting, "blocks");
        let ((outcome, state), want) = (world.on_batch(), naive(&world));
        let gap = relative(&state.token_scores, &want.token_scores);
        assert!(gap < 1e-10, "{setting:?}: {gap}");
        let value = state.value.unwrap();
        // The naive orthonormal table has two coordinates that no label uses.
        let gap = relative(value.data(), &want.value[..value.rows()].concat());
        assert!(gap < 1e-10, "{setting:?}: {gap}");
        assert_eq!(outcome.accuracy.hits, want.accuracy, "{setting:?}");
        assert_eq!(outcome.one_step.hits, want.one_step, "{setting:?}");
    }
}

#[test]
fn a_strong_softmax_is_the_argmax() {
    for carried in [false, true] {
        let of = |attention| {
            let setting = Setting {
                trigger_in_values: carried,
                attention,
                ..Setting::new(24, 12, 6, 300)
            };
            World::draw(setting, "strong").on_batch()
        };
        let (soft, hard) = (of(Attention::Strength(1e9)), of(Attention::Argmax));
        assert_eq!(soft.0.attention, hard.0.attention);
        assert_eq!(soft.0.train_attention, hard.0.train_attention);
        assert_eq!(soft.0.accuracy, hard.0.accuracy);
        let gap = relative(soft.1.value.unwrap().data(), hard.1.value.unwrap().data());
        assert!(gap < 1e-12, "{gap}");
        let weight = soft.0.attention_weight.unwrap();
        assert!((weight - hard.0.attention.rate()).abs() < 1e-12, "{weight}");
    }
}

#[test]
fn fresh_sequences_are_answered_by_the_token_they_attend_to() {
    // Training attention that errs, and one that does not where fresh attention does: then the
    // pairs that fresh sequences add must not count as recalled tokens.
    for (dim, len, samples, perfect) in [(16, 8, 40, false), (32, 4, 12, true)] {
        let world = World::draw(Setting::new(24, dim, len, samples), "elsewhere");
        let ((outcome, _), want) = (world.on_batch(), naive(&world));
        let trained = outcome.train_attention.unwrap();
        assert_eq!(trained.hits == trained.total, perfect, "{trained:?}");
        assert_eq!(outcome.accuracy.hits, want.accuracy);
        assert_eq!(
            (outcome.recall.hits, outcome.recall.total),
            (want.recall, 24)
        );
        assert!(outcome.attention.rate() < 0.9 && outcome.recall.hits >= 8);
    }
}

/// All `V^L L` samples, each once: its empirical gradient is the population gradient.
fn all_samples(permutation: &Permutation, len: usize) -> Batch {
    let vocab = permutation.vocab();
    let mut batch = Batch {
        len,
        tokens: vec![],
        position: vec![],
        label: vec![],
    };
    for code in 0..vocab.pow(len as u32) {
        let sequence: Vec<u32> = (0..len)
            .map(|i| (code / vocab.pow(i as u32) % vocab) as u32)
            .collect();
        for (i, token) in sequence.iter().enumerate() {
            batch.tokens.extend(&sequence);
            batch.position.push(i as u32);
            batch.label.push(permutation.label(*token));
        }
    }
    batch
}

#[test]
fn the_population_is_the_average_over_all_sequences() {
    let mut largest = 0.0f64;
    let mut unsaturated = 0;
    for (input, output) in tables() {
        for (carried, len, vocab) in [
            (false, 2, 4),
            (true, 2, 4),
            (false, 3, 4),
            (true, 3, 4),
            (true, 4, 5),
        ] {
            for name in ["one", "two", "three", "four"] {
                let setting = Setting {
                    trigger_in_values: carried,
                    ..Setting::new(vocab, 3, len, 1).with_embeddings(input, output)
                };
                let mut world = World::draw(setting, name);
                world.train = all_samples(&world.permutation, len);
                world.test = world.train.clone();
                let (batch, on_batch) = world.on_batch();
                world.setting.samples = Samples::Infinite;
                let (population, at_infinity) = world.early(Training::Population, false);
                let mut close = |a: f64, b: f64, scale: f64| {
                    assert!(
                        (a - b).abs() <= 1e-12 * scale,
                        "{setting:?} {name}: {a} is not {b}"
                    );
                    largest = largest.max((a - b).abs() / scale);
                };
                let scale = on_batch
                    .token_scores
                    .iter()
                    .fold(1.0f64, |m, x| m.max(x.abs()));
                for (a, b) in on_batch.token_scores.iter().zip(&at_infinity.token_scores) {
                    close(*a, *b, scale);
                }
                close(on_batch.trigger_score, at_infinity.trigger_score, scale);
                close(batch.signal, population.signal, scale);
                assert_eq!(on_batch.value.is_some(), at_infinity.value.is_some());
                if let (Some(a), Some(b)) = (&on_batch.value, &at_infinity.value) {
                    for (a, b) in a.data().iter().zip(b.data()) {
                        close(*a, *b, 1.0);
                    }
                }
                assert_eq!(population.train_attention, None);
                assert_eq!(
                    batch.train_attention,
                    Some(population.attention),
                    "{setting:?} {name}"
                );
                assert_eq!(batch.attention, population.attention, "{setting:?} {name}");
                assert_eq!(batch.accuracy, population.accuracy, "{setting:?} {name}");
                assert_eq!(batch.recall, population.recall, "{setting:?} {name}");
                assert_eq!(batch.one_step, population.one_step, "{setting:?} {name}");
                unsaturated += u32::from(population.attention.hits < population.attention.total);
            }
        }
    }
    assert!(
        unsaturated > 20,
        "imperfect attention must be covered: {unsaturated}"
    );
    println!("{unsaturated} of 80 with imperfect attention, largest deviation {largest:.1e}");
}

#[test]
fn isolating_the_parts_changes_nothing_and_they_add_up_on_average() {
    for (input, output) in tables() {
        for carried in [false, true] {
            let setting = Setting {
                trigger_in_values: carried,
                ..Setting::new(48, 24, 8, 400).with_embeddings(input, output)
            };
            let (mut parts, mut spread) = ([0.0; 9], 0.0);
            for seed in 0..40 {
                let world = World::draw(setting, &format!("parts {seed}"));
                let (plain, state) = world.on_batch();
                let (full, same) = world.early(Training::Batch(&world.train), true);
                assert_eq!(state, same);
                let noise = full.noise.unwrap();
                assert_eq!(
                    plain,
                    Outcome {
                        noise: None,
                        ..full
                    }
                );
                assert_eq!(NoiseParts::NAMES.len(), noise.values().len());
                parts
                    .iter_mut()
                    .zip(noise.values())
                    .for_each(|(a, b)| *a += b);
                spread += plain.spread_squared;
            }
            // Parts are uncorrelated on average, up to what the trial count resolves. Not so where
            // values carry an orthonormal trigger: its own read-out and the label count inside the
            // signal both follow n_j on the token of j, and reinforce each other.
            let ratio = parts.iter().sum::<f64>() / spread;
            println!(
                "{input:?} {output:?} carried {carried}: sum of parts / spread^2 = {ratio:.3}"
            );
            let covary = carried && input == Embedding::Orthonormal;
            let range = if covary { 0.4..1.0 } else { 0.85..1.15 };
            assert!(range.contains(&ratio), "{setting:?}: {ratio}");
        }
    }
}

/// Renames tokens by `sigma`: row `v` becomes row `sigma(v)`.
#[test]
fn labels_seen_once_have_no_signal_from_other_samples() {
    // With orthonormal tables the label-count part is n_j (n_j - 1) up to terms of order 1/V: zero
    // for every label that occurs once or not at all.
    let setting = Setting {
        labels: Labels::Balanced,
        ..Setting::new(64, 64, 5, 20)
            .with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal)
    };
    let world = World::draw(setting, "once");
    let (outcome, _) = world.early(Training::Batch(&world.train), true);
    let (n, len, v) = (20.0, 5.0, 64.0);
    // The size it would have with n_j^2: (1 - 1/L)/(N L^2) times the spread of n_j / N.
    let seen = n / v;
    let spread = (seen * (1.0 - seen)) / (n * n);
    let alone = ((1.0 - 1.0 / len) / (n * len * len) * world.unit()).powi(2) * spread;
    let found = outcome.noise.unwrap().label_count;
    assert!(found < 0.01 * alone, "{found} of {alone}");
}

fn rename_tokens(world: &World, sigma: &Permutation) -> World {
    let mut other = world.clone();
    if let (Table::Dense(from), Table::Dense(to)) =
        (&world.embeddings.input, &mut other.embeddings.input)
    {
        for v in 0..from.rows() {
            to.row_mut(sigma.label(v as u32) as usize)
                .copy_from_slice(from.row(v));
        }
    }
    for batch in [&mut other.train, &mut other.test] {
        batch.tokens.iter_mut().for_each(|x| *x = sigma.label(*x));
    }
    let vocab = sigma.vocab() as u32;
    other.permutation = Permutation::new(
        (0..vocab)
            .map(|v| world.permutation.label(sigma.token(v)))
            .collect(),
    )
    .unwrap();
    other
}

/// Renames labels by `sigma`.
fn rename_labels(world: &World, sigma: &Permutation) -> World {
    let mut other = world.clone();
    if let (Table::Dense(from), Table::Dense(to)) =
        (&world.embeddings.output, &mut other.embeddings.output)
    {
        for j in 0..from.rows() {
            to.row_mut(sigma.label(j as u32) as usize)
                .copy_from_slice(from.row(j));
        }
    }
    for batch in [&mut other.train, &mut other.test] {
        batch.label.iter_mut().for_each(|y| *y = sigma.label(*y));
    }
    let vocab = sigma.vocab() as u32;
    other.permutation = Permutation::new(
        (0..vocab)
            .map(|v| sigma.label(world.permutation.label(v)))
            .collect(),
    )
    .unwrap();
    other
}

/// Scales the input side (trigger included) and the output side.
fn scale(world: &World, input: f64, output: f64) -> World {
    let mut other = world.clone();
    let times = |table: &mut Table<f64>, by: f64| {
        if let Table::Dense(z) = table {
            z.data_mut().iter_mut().for_each(|x| *x *= by);
        }
    };
    times(&mut other.embeddings.input, input);
    times(&mut other.embeddings.output, output);
    for x in other.embeddings.trigger.iter_mut().flatten() {
        *x *= input;
    }
    other
}

fn counts(o: &Outcome) -> [Option<Count>; 5] {
    [
        o.train_attention,
        Some(o.attention),
        Some(o.accuracy),
        Some(o.recall),
        Some(o.one_step),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_and_units_do_not_matter(
        seed in any::<u64>(),
        vocab in 3usize..24,
        dim in 2usize..12,
        len in 2usize..7,
        samples in 1u64..120,
        carried in any::<bool>(),
        balanced in any::<bool>(),
        powers in (-8i32..9, -8i32..9),
        factors in (0.2f64..5.0, 0.2f64..5.0),
    ) {
        let setting = Setting {
            trigger_in_values: carried,
            labels: if balanced { Labels::Balanced } else { Labels::Iid },
            ..Setting::new(vocab, dim, len, samples)
        };
        let world = World::draw(setting, &format!("names {seed}"));
        let sigma = Permutation::random(vocab, &mut StreamKey::from_text(&format!("sigma {seed}")).stream(Purpose::Permutation));
        let (want, state) = world.on_batch();
        let near = |a: f64, b: f64, by: f64| (a - b).abs() <= 1e-9 * by.max(1e-6);

        let (got, renamed) = rename_tokens(&world, &sigma).on_batch();
        prop_assert_eq!(counts(&got), counts(&want));
        prop_assert!(near(got.spread_squared, want.spread_squared, want.spread_squared));
        for v in 0..vocab {
            let (a, b) = (state.token_scores[v], renamed.token_scores[sigma.label(v as u32) as usize]);
            prop_assert!(near(a, b, want.spread_squared.sqrt() + want.signal.abs()), "{} {}", a, b);
        }

        let (got, _) = rename_labels(&world, &sigma).on_batch();
        prop_assert_eq!(counts(&got), counts(&want));
        prop_assert!(near(got.signal, want.signal, want.spread_squared.sqrt() + want.signal.abs()));

        // Powers of two are exact; other factors round, which moves no argmax here.
        let (got, _) = scale(&world, 2f64.powi(powers.0), 2f64.powi(powers.1)).on_batch();
        prop_assert_eq!(counts(&got), counts(&want));
        let (got, _) = scale(&world, factors.0, factors.1).on_batch();
        prop_assert_eq!(counts(&got), counts(&want));
        // w is quadratic in the outputs and in the inputs that V1 holds and reads.
        let by = (factors.0 * factors.1).powi(2);
        prop_assert!(near(got.signal, by * want.signal, by * want.signal.abs()));
    }
}

#[test]
fn the_helpers_do_change_the_world() {
    // A guard on the helpers above: a shape error there would make the properties vacuous.
    let world = World::draw(Setting::new(8, 4, 3, 20), "guard");
    let z: Matrix<f64> = match &world.embeddings.input {
        Table::Dense(z) => z.clone(),
        Table::Orthonormal { .. } => panic!("dense by construction"),
    };
    let scaled = scale(&world, 2.0, 1.0);
    let Table::Dense(twice) = &scaled.embeddings.input else {
        panic!("dense by construction")
    };
    assert_eq!(twice.row(3)[1], 2.0 * z.row(3)[1]);
}

#[test]
fn a_stream_and_its_batch_give_the_same_outcome_to_the_last_bit() {
    // The second takes more than 32 MiB, so its sequences are drawn again at each pass.
    for (len, samples) in [(8, 300), (511, 16_500)] {
        for labels in [Labels::Iid, Labels::Balanced] {
            let setting = Setting {
                labels,
                ..Setting::new(32, 8, len, samples)
            };
            let name = "stream and batch";
            let world = World::draw(setting, name);
            let stream = Stream::new(
                StreamKey::from_text(name).stream(Purpose::Train),
                &world.permutation,
                len,
                samples as usize,
                labels,
            );
            let decompose = len < 100;
            let stored = world.early(Training::Batch(&world.train), decompose);
            let drawn = world.early(Training::Stream(&stream), decompose);
            assert_eq!(stored, drawn, "{setting:?}");
        }
    }
}
