//! Exact descent against reference cases, against finite differences of the literal loss,
//! and under the symmetries of the task.
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use proptest::prelude::*;
use recall_capacity::descent::exact::{self, Problem, State};
use recall_capacity::descent::{Evaluation, Rates};
use recall_capacity::embedding::{Embeddings, Table};
use recall_capacity::linalg::Matrix;
use recall_capacity::replay::{Case, Measure, Report, compare, replay, replay_as};
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation};
use recall_theory::{Embedding, Labels, Setting};
use serde_json::{Value, json};

const TRIGGER_IN_VALUES: &str = include_str!("data/oracle/c2_attn_vt_mid.full.json");
const WITH_MLP: &str = include_str!("data/oracle/c4_mlp_relu.full.json");
const TINY: &str = include_str!("data/oracle/c6_tiny_order_one.full.json");

#[test]
fn reference_cases_agree_array_by_array() {
    for text in [TRIGGER_IN_VALUES, TINY, WITH_MLP] {
        let case = Case::from_json(text).unwrap();
        let outputs = replay(&case).unwrap();
        let reference = case.reference.as_ref().unwrap();
        let deviations = compare(&outputs, reference).unwrap();
        assert_eq!(deviations.len(), reference.as_object().unwrap().len());
        for d in &deviations {
            assert!(d.within(1e-13), "{}: {d:?}", case.name);
        }
        for d in compare(&replay_as::<f32>(&case).unwrap(), reference).unwrap() {
            assert!(d.within(1e-5), "{} in f32: {d:?}", case.name);
        }
    }
}

#[test]
fn report_has_the_names_of_the_reference_file() {
    let case = Case::from_json(TINY).unwrap();
    let outputs = replay(&case).unwrap();
    let ours = serde_json::to_value(Report::new(&case, &outputs)).unwrap();
    let mut theirs: Value = serde_json::from_str(TINY).unwrap();
    theirs.as_object_mut().unwrap().remove("inputs");
    let names = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    assert_eq!(names(&ours["outputs"]), names(&theirs["outputs"]));
    for (key, value) in theirs.as_object().unwrap() {
        if key != "outputs" {
            let same = &ours[key] == value || ours[key].as_f64() == value.as_f64();
            assert!(same, "{key}: {} is not {value}", ours[key]);
        }
    }
}

#[test]
fn a_deviation_is_noticed() {
    let case = Case::from_json(TINY).unwrap();
    let mut outputs = replay(&case).unwrap();
    outputs.V1[0][0] += 1e-9;
    outputs.train_acc[0] += 0.5; // all logits tie there: not compared
    outputs.train_acc[2] += 0.05;
    outputs.gd_loss[7] += 1e-11;
    let mut reference = case.reference.unwrap();
    reference["later"] = json!(1.0);
    let failed: Vec<_> = compare(&outputs, &reference)
        .unwrap()
        .into_iter()
        .filter(|d| !d.within(1e-12))
        .map(|d| (d.name, d.measure))
        .collect();
    assert_eq!(
        failed,
        [
            ("V1".to_owned(), Measure::Relative),
            ("gd_loss".to_owned(), Measure::Absolute),
            ("later".to_owned(), Measure::Unknown),
            ("train_acc".to_owned(), Measure::Count),
        ]
    );
    reference["V1"] = json!([[1.0]]);
    let error = compare(&outputs, &reference).unwrap_err().to_string();
    assert_eq!(error, "outputs.V1 has 1 entries, expected the replay's = 4");
}

/// The tiny case with one value replaced.
fn tiny_with(pointer: &str, value: Value) -> String {
    let mut case: Value = serde_json::from_str(TINY).unwrap();
    *case.pointer_mut(pointer).unwrap() = value;
    case.to_string()
}

#[test]
fn a_wrong_hidden_layer_is_refused_by_the_name_of_its_key() {
    for (pointer, value, message) in [
        ("/activation", json!(null), "activation is missing"),
        ("/inputs/W_in", json!(null), "inputs.W_in is missing"),
        ("/activation", json!("step"), "is no activation"),
        ("/m", json!(63), "inputs.W_in has 64 rows, expected m = 63"),
        ("/m", json!(0), "m = 0: must be at least 1"),
        (
            "/inputs/W_in/2",
            json!([1.0]),
            "inputs.W_in[2] has 1 entries, expected d = 16",
        ),
    ] {
        let mut case: Value = serde_json::from_str(WITH_MLP).unwrap();
        *case.pointer_mut(pointer).unwrap() = value;
        let error = Case::from_json(&case.to_string()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn a_wrong_case_is_refused_by_the_name_of_its_key() {
    for (pointer, value, message) in [
        ("/V", json!(9), "inputs.Z_in has 8 rows, expected V = 9"),
        ("/V", json!(-1), "V: invalid value"),
        ("/V", json!(0), "V = 0: must be at least 1"),
        ("/eta", json!(null), "the key eta is missing"),
        ("/T", json!(10_000_000), "T = 10000000: must be at most"),
        ("/m", json!(64), "activation is missing"),
        ("/inputs/W_in", json!([]), "activation is missing"),
        ("/inputs", json!(3), "inputs must be a JSON object"),
        (
            "/inputs/Z_out/3",
            json!([1, 2, 3]),
            "inputs.Z_out[3] has 3 entries, expected d = 4",
        ),
        (
            "/inputs/tokens/2/1",
            json!(8),
            "inputs.tokens[2][1] = 8: must be below V = 8",
        ),
        (
            "/inputs/tokens/2/1",
            json!("a"),
            "inputs.tokens: invalid type",
        ),
        (
            "/inputs/tokens_test",
            json!([]),
            "inputs.tokens_test has 0 rows, expected at least 1",
        ),
        (
            "/inputs/pos/0",
            json!(3),
            "inputs.pos[0] = 3: must be below L = 3",
        ),
        ("/inputs/pi/0", json!(1), "must be a permutation"),
    ] {
        let error = Case::from_json(&tiny_with(pointer, value)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    let case = Case::from_json(&tiny_with("/inputs/z_eos/0", json!(1e200))).unwrap();
    let error = replay(&case).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("is not finite"), "{error}");
    let mut case = Case::from_json(TINY).unwrap();
    case.inputs.z_trig[2] = f64::NAN;
    let error = replay(&case).unwrap_err().to_string();
    assert!(error.contains("inputs.z_trig[2] = NaN"), "{error}");
}

#[test]
fn degenerate_sizes_run() {
    // One class, one position, one sample, one dimension.
    let case = json!({
        "name": "one", "V": 1, "d": 1, "L": 1, "N": 1, "eta": 1, "gamma_w": 1, "gamma_v": 1,
        "value_trigger": true,
        "inputs": {
            "tokens": [[0]], "pos": [0], "pi": [0], "Z_in": [[1]], "Z_out": [[1]],
            "z_trig": [1], "z_eos": [0], "tokens_test": [[0]], "pos_test": [0],
        },
    });
    let outputs = replay(&Case::from_json(&case.to_string()).unwrap()).unwrap();
    assert_eq!(outputs.loss, [0.0; 4]);
    assert_eq!(outputs.test_min_margin, None);
    assert_eq!(outputs.gd_loss.len(), 1);
    assert_eq!(outputs.W1, [[0.0]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_case_panics(
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0usize..16), 1..4),
        inputs_only in any::<bool>(),
    ) {
        let mut case: Value = serde_json::from_str(TINY).unwrap();
        case["T"] = json!(2);
        for (pick, what) in picks {
            let mut places = Vec::new();
            let root = if inputs_only { "/inputs" } else { "" };
            list(root, case.pointer(root).unwrap(), &mut places);
            if places.is_empty() {
                continue;
            }
            let place = case.pointer_mut(pick.get(&places[..]).as_str()).unwrap();
            match what {
                0 => *place = json!(null),
                1 => *place = json!(-1),
                2 => *place = json!(0),
                3 => *place = json!(1e300),
                4 => *place = json!(u64::MAX),
                5 => *place = json!("x"),
                6 => *place = json!([]),
                7 => *place = json!({}),
                8 => *place = json!([[]]),
                9 => *place = json!(true),
                10 => *place = json!(-1e-300),
                11 => *place = json!(4294967296u64),
                12 => *place = json!(1),
                13 => *place = json!(-1e9),
                _ => if let Value::Array(x) = place {
                    if what == 14 { x.pop(); } else { x.push(json!(2)); }
                },
            }
        }
        if let Ok(case) = Case::from_json(&case.to_string())
            && let Ok(outputs) = replay(&case)
            && let Some(reference) = &case.reference
        {
            let _ = compare(&outputs, reference);
        }
    }

    #[test]
    fn no_text_panics(text in "[\\[\\]{}\",:0-9a-zA-Z_.-]{0,60}", cut in 0usize..3000) {
        prop_assert!(Case::from_json(&text).is_err());
        prop_assert!(Case::from_json(&TINY[..cut]).is_err());
    }
}

/// All places of a JSON value, but of long arrays only some.
fn list(at: &str, value: &Value, places: &mut Vec<String>) {
    if !at.is_empty() {
        places.push(at.to_owned());
    }
    match value {
        Value::Array(x) => {
            for (i, x) in x.iter().enumerate().filter(|(i, _)| i % 5 == 0) {
                list(&format!("{at}/{i}"), x, places);
            }
        }
        Value::Object(x) => x
            .iter()
            .for_each(|(k, x)| list(&format!("{at}/{k}"), x, places)),
        _ => {}
    }
}

/// The task written down without any structure: full embedding tables, full matrices.
struct Literal {
    z_in: Vec<Vec<f64>>,
    z_out: Vec<Vec<f64>>,
    trigger: Vec<f64>,
    query: Vec<f64>,
    in_values: bool,
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Literal {
    /// An orthonormal input table spans `V` coordinates, its trigger the next, its query the
    /// one after that.
    fn new(e: &Embeddings<f64>, query: &[f64], in_values: bool) -> Self {
        let unit = |i: usize, n: usize| -> Vec<f64> {
            (0..n).map(|j| f64::from(u8::from(i == j))).collect()
        };
        let rows = |table: &Table<f64>, extra: usize| -> Vec<Vec<f64>> {
            let width = table.dim() + extra;
            (0..table.vocab())
                .map(|v| match table {
                    Table::Dense(z) => z.row(v).to_vec(),
                    Table::Orthonormal { .. } => unit(v, width),
                })
                .collect()
        };
        let vocab = e.input.vocab();
        let (extra, trigger, query) = match &e.trigger {
            Some(z) => (0, z.clone(), query.to_vec()),
            None => {
                let norm = inner(query, query).sqrt();
                let eos = unit(vocab + 1, vocab + 2)
                    .iter()
                    .map(|x| x * norm)
                    .collect();
                (2, unit(vocab, vocab + 2), eos)
            }
        };
        Literal {
            z_in: rows(&e.input, extra),
            z_out: rows(&e.output, 0),
            trigger,
            query,
            in_values,
        }
    }

    /// Mean cross entropy with full matrices `value` (`d_out x d`) and `w` (`d x d`).
    fn loss(&self, batch: &Batch, value: &[Vec<f64>], w: &[Vec<f64>]) -> f64 {
        let q: Vec<f64> = w.iter().map(|row| inner(row, &self.query)).collect();
        let mut sum = 0.0;
        for n in 0..batch.samples() {
            let plus = |x: u32, on: bool| -> Vec<f64> {
                let z = &self.z_in[x as usize];
                let t = if on { 1.0 } else { 0.0 };
                z.iter()
                    .zip(&self.trigger)
                    .map(|(z, g)| z + t * g)
                    .collect()
            };
            let mut h = vec![0.0; self.trigger.len()];
            let mut total = 0.0;
            for (i, &x) in batch.sequence(n).iter().enumerate() {
                let here = i == batch.position[n] as usize;
                let weight = inner(&plus(x, here), &q).exp();
                total += weight;
                for (h, v) in h.iter_mut().zip(plus(x, here && self.in_values)) {
                    *h += weight * v;
                }
            }
            h.iter_mut().for_each(|h| *h /= total);
            let o: Vec<f64> = value.iter().map(|row| inner(row, &h)).collect();
            let f: Vec<f64> = self.z_out.iter().map(|z| inner(z, &o)).collect();
            let log_sum = f.iter().map(|f| f.exp()).sum::<f64>().ln();
            sum += log_sum - f[batch.label[n] as usize];
        }
        sum / batch.samples() as f64
    }
}

/// Fourth-order central difference of `f` at 0.
fn derivative(mut f: impl FnMut(f64) -> f64) -> f64 {
    let h = 2e-3;
    (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
}

fn full(m: &Matrix<f64>, width: usize) -> Vec<Vec<f64>> {
    (0..m.rows())
        .map(|i| {
            let mut row = m.row(i).to_vec();
            row.resize(width, 0.0);
            row
        })
        .collect()
}

struct World {
    embeddings: Embeddings<f64>,
    query: Vec<f64>,
    batch: Batch,
}

fn world(setting: &Setting, seed: u64) -> World {
    let key = StreamKey::from_text(&format!("oracle test {seed}"));
    let pi = Permutation::random(setting.vocab, &mut key.stream(Purpose::Permutation));
    let samples = setting.samples.as_f64() as usize;
    let batch = Batch::draw(
        &mut key.stream(Purpose::Train),
        &pi,
        setting.len,
        samples,
        Labels::Iid,
    );
    let mut query = noise(seed + 1000, setting.dim_in);
    query.iter_mut().for_each(|x| *x *= 0.7);
    World {
        embeddings: Embeddings::draw(setting, &key),
        query,
        batch,
    }
}

/// Smooth, aperiodic numbers of order one.
fn noise(seed: u64, n: usize) -> Vec<f64> {
    (0..n)
        .map(|i| 1.5 * ((seed as f64 + 1.0) * 0.731 + i as f64 * 2.399).sin())
        .collect()
}

fn settings() -> Vec<Setting> {
    use Embedding::{Gaussian, Orthonormal};
    let mut out = Vec::new();
    for in_values in [false, true] {
        for (input, output) in [
            (Gaussian, Gaussian),
            (Gaussian, Orthonormal),
            (Orthonormal, Gaussian),
            (Orthonormal, Orthonormal),
        ] {
            let mut s = Setting::new(6, 3, 3, 9);
            s.dim_in = 5;
            s.trigger_in_values = in_values;
            out.push(s.with_embeddings(input, output));
        }
    }
    out
}

#[test]
fn gradients_are_the_finite_differences_of_the_literal_loss() {
    for (seed, setting) in settings().iter().enumerate() {
        let w = world(setting, seed as u64);
        let in_values = setting.trigger_in_values;
        let problem = Problem::new(&w.embeddings, &w.query, &w.batch, in_values).unwrap();
        let literal = Literal::new(&w.embeddings, &w.query, in_values);
        let dim = literal.trigger.len();
        let mut state = State::zero(&problem);
        let values = noise(seed as u64, state.value.data().len());
        state.value.data_mut().copy_from_slice(&values);
        state.query_key = noise(seed as u64 + 50, problem.key_dim());

        let value = full(&state.value, dim);
        let norm2 = inner(&literal.query, &literal.query);
        assert!((problem.query_norm2() - norm2).abs() < 1e-14);
        let mut key_query = vec![vec![0.0; dim]; dim];
        for (row, q) in key_query.iter_mut().zip(&state.query_key) {
            for (w, z) in row.iter_mut().zip(&literal.query) {
                *w = q * z / norm2;
            }
        }
        let (gradient, seen) = exact::gradient(&problem, &state);
        let loss = literal.loss(&w.batch, &value, &key_query);
        assert!((seen.loss - loss).abs() < 1e-13);
        for i in 0..value.len() {
            for j in 0..problem.feature_dim() {
                let slope = derivative(|h| {
                    let mut moved = value.clone();
                    moved[i][j] += h;
                    literal.loss(&w.batch, &moved, &key_query)
                });
                let ours = gradient.value.row(i)[j];
                assert!((ours - slope).abs() < 1e-9, "{setting:?}: V {ours} {slope}");
            }
        }
        for i in 0..dim {
            for j in 0..dim {
                let slope = derivative(|h| {
                    let mut moved = key_query.clone();
                    moved[i][j] += h;
                    literal.loss(&w.batch, &value, &moved)
                });
                let ours = gradient.key.get(i).map_or(0.0, |g| g * literal.query[j]);
                assert!((ours - slope).abs() < 1e-9, "{setting:?}: W {ours} {slope}");
            }
        }
    }
}

#[test]
fn the_steps_follow_the_gradient() {
    for (seed, setting) in settings().iter().enumerate() {
        let w = world(setting, seed as u64);
        let in_values = setting.trigger_in_values;
        let problem = Problem::new(&w.embeddings, &w.query, &w.batch, in_values).unwrap();
        let rates = Rates {
            eta: 3.0,
            gamma_w: 50.0,
            gamma_v: 2.0,
        };
        let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-14);
        let zero = State::zero(&problem);
        let (g, at_zero) = exact::gradient(&problem, &zero);
        let closed = exact::evaluate_zero(&problem);
        assert_eq!(
            Evaluation {
                loss: 0.0,
                ..closed
            },
            Evaluation {
                loss: 0.0,
                ..at_zero
            }
        );
        assert!((closed.loss - at_zero.loss).abs() < 1e-15);
        let descend = |from: &Matrix<f64>, g: &Matrix<f64>, rate: f64| -> Vec<f64> {
            let pairs = from.data().iter().zip(g.data());
            pairs.map(|(v, g)| v - rate * g).collect()
        };
        let one = exact::step_one(&problem, rates.eta);
        assert!(near(
            one.value.data(),
            &descend(&zero.value, &g.value, rates.eta)
        ));
        assert_eq!(one.query_key, zero.query_key);
        let (g, _) = exact::gradient(&problem, &one);
        let (two, _) = exact::step_two(&problem, &one, rates.gamma_w);
        let scale = rates.gamma_w * problem.query_norm2();
        let q: Vec<f64> = g.key.iter().map(|g| -scale * g).collect();
        assert!(near(&two.query_key, &q));
        let (g, _) = exact::gradient(&problem, &two);
        let (three, _) = exact::step_three(&problem, &two, rates.gamma_v);
        assert!(near(
            three.value.data(),
            &descend(&two.value, &g.value, rates.gamma_v)
        ));

        let trial = exact::run(
            &w.embeddings,
            &w.query,
            &w.batch,
            &w.batch,
            rates,
            in_values,
        )
        .unwrap();
        assert_eq!(trial.value_1, one.value);
        assert_eq!(trial.query_key_1, two.query_key);
        assert_eq!(trial.value_2, three.value);
        assert_eq!(trial.train[3], trial.test);
        assert_eq!(trial.test, exact::evaluate(&problem, &three));
    }
}

#[test]
fn the_loss_drop_keeps_its_digits_at_tiny_steps() {
    let w = world(&Setting::new(32, 8, 4, 300), 7);
    let problem = Problem::new(&w.embeddings, &w.query, &w.batch, false).unwrap();
    let (g, _) = exact::gradient(&problem, &State::zero(&problem));
    let eta = 1e-9;
    let drop = exact::evaluate(&problem, &exact::step_one(&problem, eta)).loss_drop;
    let first_order = eta * inner(g.value.data(), g.value.data());
    assert!((drop / first_order - 1.0).abs() < 1e-8);
}

#[test]
fn saturated_attention_and_logits_stay_finite() {
    let w = world(&Setting::new(16, 4, 5, 80), 3);
    let rates = Rates {
        eta: 20.0,
        gamma_w: 1e7,
        gamma_v: 1e5,
    };
    let trial = exact::run(&w.embeddings, &w.query, &w.batch, &w.batch, rates, false).unwrap();
    assert!(trial.query_key_1.iter().any(|q| q.abs() > 1e3));
    assert!(
        trial
            .train
            .iter()
            .all(|e| e.loss.is_finite() && e.min_margin >= 0.0)
    );
    assert!(trial.test.loss > 100.0);
}

/// Relative Frobenius distance.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let gap: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (gap / inner(b, b)).sqrt()
}

fn shuffled(n: usize, key: &StreamKey, purpose: Purpose) -> Vec<usize> {
    let p = Permutation::random(n, &mut key.stream(purpose));
    p.labels().iter().map(|&i| i as usize).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Renaming tokens and labels, and reordering samples and positions, changes nothing.
    #[test]
    fn the_trial_has_the_symmetries_of_the_task(
        seed in any::<u32>(), vocab in 2usize..20, d_in in 1usize..8, d_out in 1usize..8,
        len in 2usize..7, samples in 1u64..400, in_values in any::<bool>(), eta in 0.01f64..20.0,
    ) {
        let mut setting = Setting::new(vocab, d_in, len, samples);
        setting.dim_out = d_out;
        let w = world(&setting, u64::from(seed));
        let key = StreamKey::from_text(&format!("symmetry {seed}"));
        let rates = Rates { eta, gamma_w: 30.0 / eta, gamma_v: 5.0 };
        let trial =
            exact::run(&w.embeddings, &w.query, &w.batch, &w.batch, rates, in_values).unwrap();

        let token = shuffled(vocab, &key, Purpose::InputEmbedding);
        let label = shuffled(vocab, &key, Purpose::OutputEmbedding);
        let sample = shuffled(w.batch.samples(), &key, Purpose::Train);
        let place = shuffled(len, &key, Purpose::Query);
        let rename = |table: &Table<f64>, names: &[usize]| {
            let Table::Dense(z) = table else { unreachable!() };
            let mut renamed = Matrix::zeros(z.rows(), z.cols());
            for (v, &name) in names.iter().enumerate() {
                renamed.row_mut(name).copy_from_slice(z.row(v));
            }
            Table::Dense(renamed)
        };
        let embeddings = Embeddings {
            input: rename(&w.embeddings.input, &token),
            output: rename(&w.embeddings.output, &label),
            trigger: w.embeddings.trigger.clone(),
        };
        let mut batch = Batch { len, tokens: vec![], position: vec![], label: vec![] };
        for &n in &sample {
            let old = w.batch.sequence(n);
            batch.tokens.extend(place.iter().map(|&i| token[old[i] as usize] as u32));
            let position = place.iter().position(|&i| i == w.batch.position[n] as usize);
            batch.position.push(position.unwrap() as u32);
            batch.label.push(label[w.batch.label[n] as usize] as u32);
        }
        let same = exact::run(&embeddings, &w.query, &batch, &batch, rates, in_values).unwrap();
        prop_assert!(distance(same.value_1.data(), trial.value_1.data()) < 1e-12);
        prop_assert!(distance(&same.query_key_1, &trial.query_key_1) < 1e-10);
        prop_assert!(distance(same.value_2.data(), trial.value_2.data()) < 1e-10);
        for (a, b) in same.train.iter().zip(&trial.train).skip(1) {
            prop_assert!((a.loss - b.loss).abs() < 1e-11);
            prop_assert!((a.attention_mean - b.attention_mean).abs() < 1e-11);
            if b.min_margin > 1e-9 {
                prop_assert_eq!(a.correct, b.correct);
            }
        }
    }
}

#[test]
fn a_problem_that_does_not_fit_is_refused() {
    let w = world(&Setting::new(6, 4, 3, 5), 1);
    let refuse = |query: &[f64], batch: &Batch| {
        Problem::new(&w.embeddings, query, batch, false)
            .unwrap_err()
            .to_string()
    };
    assert!(refuse(&[1.0], &w.batch).contains("the query has 1 entries, expected 4"));
    let mut batch = w.batch.clone();
    batch.tokens[4] = 6;
    assert!(refuse(&w.query, &batch).contains("token 6 of sample 1 is not below 6"));
    batch = w.batch.clone();
    batch.position.pop();
    assert!(refuse(&w.query, &batch).contains("the position list has 4 entries, expected 5"));
    batch = w.batch.clone();
    batch.tokens.pop();
    assert!(refuse(&w.query, &batch).contains("the token list has 14 entries, expected 15"));
    batch.label.clear();
    assert!(refuse(&w.query, &batch).contains("the number of samples must be at least 1"));
}
