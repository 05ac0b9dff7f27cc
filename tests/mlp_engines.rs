//! The attention-MLP model in both engines: gradients against finite differences of a literal
//! loss, the small-step engine against the exact one.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use recall_capacity::descent::early::Outcome;
use recall_capacity::descent::exact::{self, Problem, State};
use recall_capacity::descent::hidden::Hidden;
use recall_capacity::descent::samples::Data;
use recall_capacity::descent::{Rates, mlp};
use recall_capacity::embedding::{Embeddings, Table};
use recall_capacity::job::{Configuration, Engine, Job, JobError, Precision};
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation, Stream};
use recall_theory::{
    Activation, Embedding, Labels, Mlp, MlpInput, MlpRows, Model, Samples, Setting,
};

const ACTIVATIONS: [&str; 9] = [
    "linear",
    "relu",
    "centred-relu",
    "gelu",
    "tanh",
    "softplus",
    "abs:0.3,1",
    "hermite-2",
    "hermite:0.1,0.5,-0.3,0.2",
];

fn with_mlp(setting: Setting, activation: &str, input: MlpInput, width: usize) -> Setting {
    setting.with_mlp(Mlp {
        activation: activation.parse().unwrap(),
        width,
        input,
        rows: MlpRows::Gaussian,
    })
}

struct World {
    setting: Setting,
    embeddings: Embeddings<f64>,
    hidden: Hidden<f64>,
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
        let draw = |purpose, n, labels| {
            let rng = &mut key.stream(purpose);
            Batch::draw(rng, &permutation, setting.len, n, labels)
        };
        let n = setting.samples.as_f64() as usize;
        World {
            hidden: Hidden::draw(setting.model.mlp().unwrap(), setting.dim_in, &key),
            train: draw(Purpose::Train, n, setting.labels),
            test: draw(Purpose::Test, 300, Labels::Iid),
            setting,
            embeddings,
            query,
            permutation,
        }
    }

    /// A trial of the engine of small steps.
    fn limit(&self) -> (Outcome, mlp::MlpState<f64>) {
        self.limit_on(Data::Batch(&self.train))
    }

    fn limit_on(&self, train: Data<'_>) -> (Outcome, mlp::MlpState<f64>) {
        mlp::run(&mlp::Trial {
            setting: &self.setting,
            embeddings: &self.embeddings,
            hidden: &self.hidden,
            permutation: &self.permutation,
            train,
            test: &self.test,
        })
        .unwrap()
    }

    fn problem<'a>(&'a self, batch: &'a Batch, in_values: bool) -> Problem<'a, f64> {
        Problem::new(&self.embeddings, &self.query, batch, in_values)
            .unwrap()
            .with_hidden(Some(&self.hidden))
            .unwrap()
    }
}

/// The loss written out sample by sample, from the definitions.
fn literal_loss(w: &World, in_values: bool, value: &[Vec<f64>], q: &[f64]) -> f64 {
    let Table::Dense(z_in) = &w.embeddings.input else {
        panic!("dense inputs")
    };
    let trigger = w.embeddings.trigger.as_ref().unwrap();
    let inner = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let mut total = 0.0;
    for n in 0..w.train.samples() {
        let position = w.train.position[n] as usize;
        let keys: Vec<Vec<f64>> = w
            .train
            .sequence(n)
            .iter()
            .enumerate()
            .map(|(i, &x)| {
                let mut k = z_in.row(x as usize).to_vec();
                if i == position {
                    k.iter_mut().zip(trigger).for_each(|(k, t)| *k += t);
                }
                k
            })
            .collect();
        let weights: Vec<f64> = keys.iter().map(|k| inner(k, q).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut h = vec![0.0; z_in.cols()];
        for (i, &x) in w.train.sequence(n).iter().enumerate() {
            let v = if in_values {
                &keys[i][..]
            } else {
                z_in.row(x as usize)
            };
            h.iter_mut()
                .zip(v)
                .for_each(|(h, v)| *h += weights[i] / sum * v);
        }
        if w.hidden.input == MlpInput::Rms {
            let norm = inner(&h, &h).sqrt();
            h.iter_mut().for_each(|h| *h /= norm);
        }
        let phi: Vec<f64> = (0..w.hidden.width())
            .map(|k| {
                w.hidden
                    .activation
                    .value(inner(w.hidden.weights.row(k), &h))
            })
            .collect();
        let pulled: Vec<f64> = value.iter().map(|row| inner(row, &phi)).collect();
        let logits: Vec<f64> = match &w.embeddings.output {
            Table::Dense(z) => (0..z.rows()).map(|j| inner(z.row(j), &pulled)).collect(),
            Table::Orthonormal { .. } => pulled,
        };
        let partition: f64 = logits.iter().map(|f| f.exp()).sum();
        total += partition.ln() - logits[w.train.label[n] as usize];
    }
    total / w.train.samples() as f64
}

#[test]
fn gradients_are_the_finite_differences_of_the_literal_loss() {
    let mut sign = 1.0;
    for activation in ACTIVATIONS {
        for input in [MlpInput::Raw, MlpInput::Rms] {
            for (output, in_values) in
                [(Embedding::Gaussian, false), (Embedding::Orthonormal, true)]
            {
                let setting =
                    Setting::new(5, 3, 3, 12).with_embeddings(Embedding::Gaussian, output);
                let w = World::draw(with_mlp(setting, activation, input, 4), activation);
                let problem = w.problem(&w.train, in_values);
                let mut state = State::zero(&problem);
                for (i, v) in state.value.data_mut().iter_mut().enumerate() {
                    sign = -sign;
                    *v = sign * 0.3 * (1.0 + (i as f64).sin());
                }
                state.query_key = vec![0.4, -0.7, 0.2];
                let (gradient, seen) = exact::gradient(&problem, &state);
                let value: Vec<Vec<f64>> = (0..state.value.rows())
                    .map(|i| state.value.row(i).to_vec())
                    .collect();
                let loss = |v: &[Vec<f64>], q: &[f64]| literal_loss(&w, in_values, v, q);
                let at = format!("{activation} {input:?} {output:?}");
                assert!(
                    (seen.loss - loss(&value, &state.query_key)).abs() < 1e-12,
                    "{at}"
                );
                let h = 1e-5;
                for i in 0..value.len() {
                    for j in 0..value[0].len() {
                        let moved = |h: f64| {
                            let mut v = value.clone();
                            v[i][j] += h;
                            loss(&v, &state.query_key)
                        };
                        let slope = (moved(h) - moved(-h)) / (2.0 * h);
                        let ours = gradient.value.row(i)[j];
                        assert!((ours - slope).abs() < 1e-8, "{at}: V {ours} {slope}");
                    }
                }
                // W = q z_EOS^T / |z_EOS|^2, so dL/dq is the vector g of dL/dW = g z_EOS^T.
                for i in 0..3 {
                    let moved = |h: f64| {
                        let mut q = state.query_key.clone();
                        q[i] += h;
                        loss(&value, &q)
                    };
                    let slope = (moved(h) - moved(-h)) / (2.0 * h);
                    let ours = gradient.key[i];
                    assert!((ours - slope).abs() < 1e-8, "{at}: q {ours} {slope}");
                }
            }
        }
    }
}

fn relative(a: &[f64], b: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

#[test]
fn engines_agree_in_the_limit_of_small_steps() {
    for activation in ACTIVATIONS {
        for input in [MlpInput::Raw, MlpInput::Rms] {
            for output in [Embedding::Gaussian, Embedding::Orthonormal] {
                let setting =
                    Setting::new(24, 10, 5, 250).with_embeddings(Embedding::Gaussian, output);
                // A world in which no two scores nearly tie: a tie is broken by any finite eta.
                let w = World::draw(with_mlp(setting, activation, input, 40), "limit2");
                let (outcome, want) = w.limit();
                let mut scores = want.token_scores.clone();
                scores.push(want.trigger_score);
                let norm2: f64 = w.query.iter().map(|x| x * x).sum();
                let unit = 25.0 * 24.0 / 40.0;
                let at = [1e-4, 1e-5].map(|relative_eta| {
                    let rates = Rates {
                        eta: relative_eta * unit,
                        gamma_w: 1e13 / (norm2 * relative_eta),
                        gamma_v: 1.0,
                    };
                    let (train, test) = (w.problem(&w.train, false), w.problem(&w.test, false));
                    let trial = exact::train(&train, &test, rates);
                    let state = State {
                        value: trial.value_1.clone(),
                        query_key: trial.query_key_1.clone(),
                    };
                    let (mut scores, trigger) = exact::attention_scores(&train, &state);
                    scores.push(trigger);
                    let gain = rates.gamma_w * norm2 * rates.eta;
                    scores.iter_mut().for_each(|s| *s /= gain);
                    let first: Vec<f64> =
                        trial.value_1.data().iter().map(|v| v / rates.eta).collect();
                    let third: Vec<f64> = trial
                        .value_2
                        .data()
                        .iter()
                        .zip(trial.value_1.data())
                        .map(|(two, one)| two - one)
                        .collect();
                    (first, scores, third, trial)
                });
                let name = format!("{activation} {input:?} {output:?}");
                assert!(relative(&at[1].0, want.value_1.data()) < 1e-12, "{name}");
                for (what, gaps) in [
                    ("scores", [0, 1].map(|i| relative(&at[i].1, &scores))),
                    (
                        "V2",
                        [0, 1].map(|i| relative(&at[i].2, want.value_2.data())),
                    ),
                ] {
                    let slope = gaps[0] / gaps[1];
                    assert!((slope - 10.0).abs() < 0.5, "{name} {what}: {gaps:?}");
                }
                assert_eq!(
                    outcome.train_attention.unwrap().hits as usize,
                    at[1].3.train[3].attention_hits,
                    "{name}"
                );
                assert_eq!(
                    outcome.attention.hits as usize, at[1].3.test.attention_hits,
                    "{name}"
                );
            }
        }
    }
}

fn job(activation: Activation, input: MlpInput, precision: Precision) -> Job {
    let setting = Setting::new(64, 16, 8, 400).with_mlp(Mlp {
        activation,
        width: 48,
        input,
        rows: MlpRows::Balanced,
    });
    let mut config = Configuration::of(&setting);
    config.precision = precision;
    Job {
        config,
        seed: 3,
        paired: vec![],
    }
}

#[test]
fn both_precisions_and_both_engines_measure_the_same() {
    for activation in ACTIVATIONS {
        let activation: Activation = activation.parse().unwrap();
        for input in [MlpInput::Raw, MlpInput::Rms] {
            let wide = job(activation, input, Precision::F64)
                .run()
                .unwrap()
                .outcome;
            let narrow = job(activation, input, Precision::F32)
                .run()
                .unwrap()
                .outcome;
            let mut exact = job(activation, input, Precision::F64);
            exact.config.engine = Engine::Exact {
                eta: 1e-7,
                gamma_w: 1e14,
                gamma_v: 1e9,
            };
            assert_eq!(
                exact.stream_key(),
                job(activation, input, Precision::F64).stream_key()
            );
            let exact = exact.run().unwrap().outcome;
            for (a, tolerance) in [(&narrow, 1e-3), (&exact, 1e-4)] {
                let close = |x: f64, y: f64| {
                    assert!(
                        (x - y).abs() < tolerance * y.abs(),
                        "{activation} {input:?}: {x} {y}"
                    );
                };
                close(a.signal, wide.signal);
                close(a.spread_squared, wide.spread_squared);
                close(a.interference_squared, wide.interference_squared);
            }
            // Near-ties may fall either way in single precision.
            assert!(narrow.recall.hits.abs_diff(wide.recall.hits) <= 1);
            assert_eq!(exact.recall.total, wide.recall.total);
            assert_eq!(exact.train_attention, wide.train_attention, "{activation}");
        }
    }
}

#[test]
fn a_linear_layer_with_orthogonal_weights_is_no_layer() {
    use recall_capacity::descent::early::{self, Training, Trial};
    use recall_capacity::linalg::Matrix;
    // W^T W = m I with m = 2 d: every number is that of the attention-only model.
    let plain = Setting::new(40, 8, 5, 300);
    let mut w = World::draw(with_mlp(plain, "linear", MlpInput::Raw, 16), "orthogonal");
    let mut weights = vec![0.0; 16 * 8];
    for k in 0..8 {
        weights[k * 8 + k] = 8f64.sqrt();
        weights[(k + 8) * 8 + k] = -(8f64.sqrt());
    }
    w.hidden.weights = Matrix::from_vec(16, 8, weights);
    let (with, _) = w.limit();
    let (without, _) = early::run(&Trial {
        setting: &plain,
        embeddings: &w.embeddings,
        permutation: &w.permutation,
        training: Training::Batch(&w.train),
        test: &w.test,
        decompose: false,
    });
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12 * b.abs(), "{a} {b}");
    close(with.signal, without.signal);
    close(with.spread_squared, without.spread_squared);
    close(with.interference_squared, without.interference_squared);
    assert_eq!(with.recall, without.recall);
    assert_eq!(with.accuracy, without.accuracy);
    assert_eq!(with.one_step, without.one_step);
    assert_eq!(with.train_attention, without.train_attention);
}

#[test]
fn a_stream_and_its_batch_give_the_same_outcome_to_the_last_bit() {
    // The second takes more than 32 MiB, so its sequences are drawn again at each pass.
    for (len, samples) in [(8, 300), (511, 16_500)] {
        for (labels, output) in [
            (Labels::Iid, Embedding::Gaussian),
            (Labels::Balanced, Embedding::Orthonormal),
        ] {
            let mut setting = Setting::new(32, 8, len, samples);
            setting.labels = labels;
            let setting = setting.with_embeddings(Embedding::Gaussian, output);
            let name = "stream and batch";
            let w = World::draw(with_mlp(setting, "relu", MlpInput::Rms, 12), name);
            let stream = Stream::new(
                StreamKey::from_text(name).stream(Purpose::Train),
                &w.permutation,
                len,
                samples as usize,
                labels,
            );
            let drawn = w.limit_on(Data::Stream(&stream));
            assert!(w.limit() == drawn, "{setting:?}");
        }
    }
}

#[test]
fn hidden_weights_are_stable() {
    let mlp = Mlp {
        activation: Activation::Relu,
        width: 2,
        input: MlpInput::Raw,
        rows: MlpRows::Gaussian,
    };
    let hidden = Hidden::<f64>::draw(&mlp, 2, &StreamKey::from_text("stability"));
    let pinned = [
        -1.057701973752817,
        1.414078530699399,
        -0.030683206412541127,
        0.3019378907348652,
    ];
    for (ours, pinned) in hidden.weights.data().iter().zip(pinned) {
        assert!((ours - pinned).abs() < 1e-12, "{:?}", hidden.weights.data());
    }
}

#[test]
fn hidden_weights_are_drawn_apart_from_the_embeddings() {
    let w = World::draw(
        with_mlp(Setting::new(12, 6, 3, 20), "relu", MlpInput::Raw, 12),
        "apart",
    );
    let (Table::Dense(input), Table::Dense(output)) = (&w.embeddings.input, &w.embeddings.output)
    else {
        panic!("dense by construction")
    };
    // Both are standard normal draws, the embeddings scaled by 1/sqrt(d).
    for table in [input, output] {
        for (a, b) in w.hidden.weights.data().iter().zip(table.data()) {
            assert!((a - b * 6f64.sqrt()).abs() > 1e-9);
        }
    }
}

#[test]
fn a_chunked_trial_has_the_counts_of_its_parts() {
    // More labels than one block, more samples of a label than one chunk, and orthonormal outputs.
    for (vocab, samples) in [(150, 400), (3, 900)] {
        for output in [Embedding::Gaussian, Embedding::Orthonormal] {
            let setting =
                Setting::new(vocab, 8, 4, samples).with_embeddings(Embedding::Sphere, output);
            let w = World::draw(with_mlp(setting, "relu", MlpInput::Rms, 16), "chunks");
            let (outcome, state) = w.limit();
            assert_eq!(outcome.train_attention.unwrap().total, samples);
            assert_eq!(outcome.recall.total, vocab as u64);
            let problem = w.problem(&w.train, false);
            let one = exact::step_one(&problem, 1.0);
            assert!(relative(one.value.data(), state.value_1.data()) < 1e-12);
        }
    }
}

/// Tokens recalled by the third step under perfect attention, from its definition.
fn recalled_by_definition(w: &World) -> u64 {
    let (Table::Dense(input), Table::Dense(output)) = (&w.embeddings.input, &w.embeddings.output)
    else {
        panic!("dense by construction")
    };
    let (vocab, width) = (input.rows(), w.hidden.width());
    let features: Vec<Vec<f64>> = (0..vocab)
        .map(|v| {
            let (mut seen, mut norm) = (input.row(v).to_vec(), [0.0]);
            w.hidden.normalise(&mut seen, &mut norm);
            let mut phi = vec![0.0; width];
            w.hidden.project(&seen, &mut phi);
            w.hidden.activate(&mut phi);
            phi
        })
        .collect();
    // sum_n (e_y - 1/V) phi(token)^T
    let mut sums = vec![vec![0.0; width]; vocab];
    for &label in &w.train.label {
        let phi = &features[w.permutation.token(label) as usize];
        for (j, row) in sums.iter_mut().enumerate() {
            let c = f64::from(u8::from(j as u32 == label)) - 1.0 / vocab as f64;
            row.iter_mut().zip(phi).for_each(|(s, p)| *s += c * p);
        }
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let gram = |j: usize, k: usize| dot(output.row(j), output.row(k));
    let right = (0..vocab).filter(|&v| {
        let pulled: Vec<f64> = sums.iter().map(|row| dot(row, &features[v])).collect();
        let logits: Vec<f64> = (0..vocab)
            .map(|j| (0..vocab).map(|k| gram(j, k) * pulled[k]).sum())
            .collect();
        recall_capacity::linalg::argmax(&logits) as u32 == w.permutation.label(v as u32)
    });
    right.count() as u64
}

#[test]
fn several_blocks_have_the_limit_of_the_exact_engine() {
    // More labels and tokens than one block holds, and attention that errs.
    let setting = Setting::new(150, 32, 32, 300);
    let w = World::draw(with_mlp(setting, "tanh", MlpInput::Raw, 300), "blocks");
    let (outcome, state) = w.limit();
    let (train, test) = (w.problem(&w.train, false), w.problem(&w.test, false));
    let eta = 1e-5;
    let rates = Rates {
        eta,
        gamma_w: 1e15 / eta,
        gamma_v: 1.0,
    };
    let trial = exact::train(&train, &test, rates);
    let gain = rates.gamma_w * train.query_norm2() * eta;
    let scores: Vec<f64> = trial.token_scores_1.iter().map(|s| s / gain).collect();
    let gap = relative(&scores, &state.token_scores);
    assert!(gap < 1e-4, "scores: {gap}");
    let pairs = trial.value_2.data().iter().zip(trial.value_1.data());
    let third: Vec<f64> = pairs.map(|(two, one)| two - one).collect();
    let gap = relative(&third, state.value_2.data());
    assert!(gap < 1e-4, "V2: {gap}");
    assert_eq!(
        outcome.train_attention.unwrap().hits as usize,
        trial.train_attention_hits()
    );
    assert_eq!(outcome.attention.hits as usize, trial.test_attention_hits());
    assert_eq!(outcome.accuracy.hits as usize, trial.test_correct());
    assert_eq!(outcome.recall.hits, recalled_by_definition(&w));
    // Attention that errs, and a recall that is not that of perfect attention.
    assert!(outcome.attention.rate() < 0.9 && outcome.accuracy.hits > 40);
    let learned = mlp::recalled(&w.embeddings, &w.hidden, &w.permutation, &state.value_2);
    assert_ne!(learned, Some(outcome.recall));
}

#[test]
fn what_the_model_does_not_have_is_refused() {
    let mut decomposed = job(Activation::Relu, MlpInput::Raw, Precision::F64);
    decomposed.config.decompose = true;
    assert_eq!(
        decomposed.run().unwrap_err(),
        JobError::NotWithMlp("decompose")
    );
    let mut population = job(Activation::Relu, MlpInput::Raw, Precision::F64);
    population.config.samples = Samples::Infinite;
    assert!(population.run().is_err());
}

#[test]
fn a_hidden_layer_has_a_key_of_its_own_and_widths_may_be_paired() {
    let wide = job(Activation::Relu, MlpInput::Rms, Precision::F64);
    assert!(
        wide.canonical()
            .contains(r#""model":{"mlp":{"activation":"relu","rows":"balanced","width":48}}"#),
        "{}",
        wide.canonical()
    );
    let mut narrow = wide.clone();
    let Model::Mlp(mlp) = &mut narrow.config.model else {
        panic!("an MLP")
    };
    mlp.width = 24;
    assert_ne!(wide.stream_key(), narrow.stream_key());
    let paired = |job: &Job| {
        let mut job = job.clone();
        job.paired = vec![recall_capacity::job::Axis::Width];
        job.stream_key()
    };
    assert_eq!(paired(&wide), paired(&narrow));
}
