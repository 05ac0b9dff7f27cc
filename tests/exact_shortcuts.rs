//! What the exact engine leaves out changes no more than rounding.
//!
//! `learn` linearises the softmax of the second step where it is linear to rounding, and passes
//! without a key gradient let samples of one attended token and label share a row; the second step
//! of `train`, and `gradient`, do neither.

use recall_capacity::descent::Rates;
use recall_capacity::descent::exact::{self, Problem, State};
use recall_capacity::embedding::Embeddings;
use recall_capacity::linalg::Real;
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation};
use recall_theory::{Embedding, Labels, Setting};

struct World<R> {
    embeddings: Embeddings<R>,
    query: Vec<R>,
    batch: Batch,
}

fn world<R: Real>(input: Embedding, output: Embedding) -> World<R> {
    let (vocab, len, samples) = (96, 12, 2000);
    let setting = Setting::new(vocab, 24, len, samples as u64).with_embeddings(input, output);
    let key = StreamKey::from_text("exact shortcuts");
    let permutation = Permutation::random(vocab, &mut key.stream(Purpose::Permutation));
    let embeddings = Embeddings::draw(&setting, &key);
    let rng = &mut key.stream(Purpose::Train);
    World {
        query: embeddings.draw_query(setting.input, &key),
        batch: Batch::draw(rng, &permutation, len, samples, Labels::Iid),
        embeddings,
    }
}

impl<R: Real> World<R> {
    fn problem(&self, trigger_in_values: bool) -> Problem<'_, R> {
        Problem::new(
            &self.embeddings,
            &self.query,
            &self.batch,
            trigger_in_values,
        )
        .expect("the problem fits")
    }
}

/// Largest difference over the largest entry.
fn distance<R: Real>(a: &[R], b: &[R]) -> f64 {
    let size = a.iter().map(|x| x.to_f64().abs()).fold(0.0, f64::max);
    let pairs = a.iter().zip(b);
    pairs.fold(0.0, |d, (a, b)| (a.to_f64() - b.to_f64()).abs().max(d)) / size
}

/// The second step by both paths; tells how far they are apart.
fn second_step<R: Real>(eta: f64) -> f64 {
    let w = world::<R>(Embedding::Gaussian, Embedding::Gaussian);
    let problem = w.problem(false);
    let rates = Rates {
        eta,
        gamma_w: 1.0,
        gamma_v: 1.0,
    };
    let (whole, short) = (
        exact::train(&problem, &problem, rates),
        exact::learn(&problem, &problem, rates),
    );
    distance(&whole.query_key_1, &short.query_key_1)
}

#[test]
fn a_softmax_that_is_linear_to_rounding_is_linearised() {
    // The linear part is of the order of the logits, here just below 1e-8 and 1e-4: without it the
    // distance would be so large. It is not zero, so the two paths are two.
    let double = second_step::<f64>(3e-6);
    assert!(double > 0.0 && double < 1e-13, "{double}");
    let single = second_step::<f32>(0.1);
    assert!(single > 0.0 && single < 1e-6, "{single}");
    // Logits of the order of one: no shortcut, the same bits.
    assert_eq!(second_step::<f64>(1e4), 0.0);
}

#[test]
fn at_every_step_size_both_paths_agree_to_rounding() {
    // Logits from far below rounding to large: wherever the shortcut ends, it must end before the
    // softmax bends.
    for quarter in -32..=16 {
        let eta = 10f64.powf(f64::from(quarter) / 4.0);
        let (double, single) = (second_step::<f64>(eta), second_step::<f32>(eta));
        assert!(double < 1e-13, "{eta}: {double}");
        assert!(single < 1e-6, "{eta}: {single}");
    }
}

#[test]
fn the_key_gradient_of_a_batch_is_the_mean_over_its_samples() {
    for carried in [false, true] {
        let w = world::<f64>(Embedding::Gaussian, Embedding::Gaussian);
        let problem = w.problem(carried);
        let start = exact::step_one(&problem, 1e3);
        let direction = exact::gradient(&problem, &start).0.key;
        let longest = direction.iter().map(|x| x.abs()).fold(0.0, f64::max);
        // Few samples saturated, and many.
        for scale in [20.0, 2e2] {
            let state = State {
                query_key: direction.iter().map(|x| -scale * x / longest).collect(),
                ..start.clone()
            };
            let whole = exact::gradient(&problem, &state).0.key;
            let mut mean = vec![0.0; whole.len()];
            let samples = w.batch.samples();
            for n in 0..samples {
                let alone = World {
                    embeddings: w.embeddings.clone(),
                    query: w.query.clone(),
                    batch: Batch {
                        tokens: w.batch.sequence(n).to_vec(),
                        position: vec![w.batch.position[n]],
                        label: vec![w.batch.label[n]],
                        ..w.batch
                    },
                };
                let key = exact::gradient(&alone.problem(carried), &state).0.key;
                for (m, g) in mean.iter_mut().zip(key) {
                    *m += g / samples as f64;
                }
            }
            let d = distance(&mean, &whole);
            assert!(d < 1e-10, "{carried} {scale}: {d}");
        }
    }
}

#[test]
fn samples_of_one_attended_token_and_label_share_a_row() {
    let laws = [Embedding::Gaussian, Embedding::Orthonormal];
    for (input, output) in laws.iter().flat_map(|i| laws.map(|o| (*i, o))) {
        for carried in [false, true] {
            let w = world::<f64>(input, output);
            let problem = w.problem(carried);
            let start = exact::step_one(&problem, 1e3);
            let direction = exact::gradient(&problem, &start).0.key;
            let longest = direction.iter().map(|x| x.abs()).fold(0.0, f64::max);
            let learned = |scale: f64| direction.iter().map(|x| -scale * x / longest).collect();
            // Without a learned trigger: attended tokens of any label, informative or not. Where the
            // trigger repels, a token that stands twice is attended at its other place.
            let blind = |scale: f64| {
                let wave = (0..direction.len()).map(|i| scale * (i as f64 * 2.4).sin());
                wave.collect::<Vec<f64>>()
            };
            // Few samples saturated, some, and all.
            for query_key in [
                learned(2e2),
                learned(1e6),
                blind(5.0),
                blind(20.0),
                blind(1e5),
                blind(-1e5),
            ] {
                let state = State {
                    query_key,
                    ..start.clone()
                };
                let (gradient, apart) = exact::gradient(&problem, &state);
                let (next, shared) = exact::step_three(&problem, &state, 1.0);
                let moved: Vec<f64> = state
                    .value
                    .data()
                    .iter()
                    .zip(next.value.data())
                    .map(|(a, b)| a - b)
                    .collect();
                let d = distance(gradient.value.data(), &moved);
                assert!(d < 1e-11, "{input:?} {output:?} {carried}: {d}");
                assert_eq!(shared.correct, apart.correct);
                assert_eq!(shared.attention_hits, apart.attention_hits);
                for (a, b) in [
                    (shared.loss, apart.loss),
                    (shared.attention_mean, apart.attention_mean),
                    (shared.min_margin, apart.min_margin),
                ] {
                    assert!((a - b).abs() < 1e-11 * (1.0 + a.abs()), "{a} {b}");
                }
            }
        }
    }
}
