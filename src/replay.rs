//! Replays a reference case: literal inputs in, every intermediate quantity of
//! exact gradient descent out, under the names of the reference file.
//!
//! Nothing is drawn here; a case brings its own embeddings and sequences, so
//! two programs can be compared number by number.

use recall_theory::{Activation, MlpInput};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::descent::exact::{self, Problem, ProblemError, State};
use crate::descent::hidden::Hidden;
use crate::descent::{Evaluation, Rates};
use crate::embedding::{Embeddings, Table};
use crate::linalg::{Matrix, Real};
use crate::task::{Batch, Permutation};

/// Most entries that any one array of the outputs may have.
const MAX_ENTRIES: usize = 1 << 26;
/// Most joint steps.
const MAX_STEPS: usize = 1_000_000;
/// Accuracies are compared only where every margin exceeds this.
const SAFE_MARGIN: f64 = 1e-10;

/// What is wrong with a case, a run or a comparison.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Not JSON.
    #[error("the case is not valid JSON: {0}")]
    Json(#[source] serde_json::Error),
    /// JSON, but not an object where one is needed.
    #[error("{0} must be a JSON object")]
    NotAnObject(&'static str),
    /// A key without which the case means nothing.
    #[error("the key {0} is missing")]
    Missing(String),
    /// A value of the wrong type.
    #[error("{key}: {source}")]
    Type {
        /// Full name of the key.
        key: String,
        /// What serde says.
        source: serde_json::Error,
    },
    /// An array of the wrong length.
    #[error("{key} has {found} {unit}, expected {expected}")]
    Shape {
        /// Full name of the key.
        key: String,
        /// `rows` or `entries`.
        unit: &'static str,
        /// Its length.
        found: usize,
        /// What that should be, e.g. `V = 8`.
        expected: String,
    },
    /// A number outside its range.
    #[error("{key} = {found}: {allowed}")]
    Range {
        /// Full name of the key.
        key: String,
        /// Its value.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// A hidden layer of which only a part is given.
    #[error(
        "{missing} is missing: a hidden layer needs activation, m and inputs.W_in, an attention-only case has all three null"
    )]
    HalfMlp {
        /// The key that is not there.
        missing: &'static str,
    },
    /// Overflow during training.
    #[error("outputs.{key} is not finite: the inputs or step sizes are too large")]
    NotFinite {
        /// The first output concerned.
        key: String,
    },
    /// Inconsistent problem (not reachable from a checked case).
    #[error(transparent)]
    Problem(#[from] ProblemError),
}

/// Inputs of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// Training sequences, `N x L`.
    pub tokens: Vec<Vec<u32>>,
    /// Informative positions, from 0.
    pub pos: Vec<u32>,
    /// Label of each token.
    pub pi: Vec<u32>,
    /// Input embeddings, `V x d`.
    pub z_in: Vec<Vec<f64>>,
    /// Output embeddings, `V x d`.
    pub z_out: Vec<Vec<f64>>,
    /// Trigger vector.
    pub z_trig: Vec<f64>,
    /// Query vector.
    pub z_eos: Vec<f64>,
    /// Test sequences.
    pub tokens_test: Vec<Vec<u32>>,
    /// Informative positions of the test sequences.
    pub pos_test: Vec<u32>,
}

/// The hidden layer of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct HiddenCase {
    /// `phi`.
    pub activation: Activation,
    /// Width `m`.
    pub width: usize,
    /// What the layer sees; raw unless the case says otherwise.
    pub input: MlpInput,
    /// Weights, `m x d`.
    pub weights: Vec<Vec<f64>>,
}

/// A reference case: settings, literal inputs and, if it has them, reference outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Name.
    pub name: String,
    /// The hidden layer, if there is one.
    pub mlp: Option<HiddenCase>,
    /// Vocabulary size `V`.
    pub vocab: usize,
    /// Embedding dimension `d`.
    pub dim: usize,
    /// Sequence length `L`.
    pub len: usize,
    /// Training samples `N`.
    pub samples: usize,
    /// Step sizes of the three steps.
    pub rates: Rates,
    /// Whether the trigger is added to the values too.
    pub value_trigger: bool,
    /// Joint steps after the third step.
    pub steps: usize,
    /// Joint step size of the value matrix.
    pub lr_v: f64,
    /// Joint step size of the key-query matrix.
    pub lr_w: f64,
    /// Literal inputs.
    pub inputs: Inputs,
    /// The `outputs` object of the file.
    pub reference: Option<Value>,
}

/// A JSON object with the prefix of its keys' full names.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    prefix: &'static str,
}

impl Keys<'_> {
    fn optional<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ReplayError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|source| ReplayError::Type {
                    key: format!("{}{key}", self.prefix),
                    source,
                }),
        }
    }

    fn required<T: DeserializeOwned>(&self, key: &str) -> Result<T, ReplayError> {
        self.optional(key)?
            .ok_or_else(|| ReplayError::Missing(format!("{}{key}", self.prefix)))
    }

    fn is_set(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(|v| !v.is_null())
    }
}

impl Case {
    /// Reads and checks a case. Keys that are not part of the schema are ignored.
    ///
    /// # Errors
    /// Names the first key that is missing, of the wrong type or shape, or out of range.
    pub fn from_json(text: &str) -> Result<Self, ReplayError> {
        let value: Value = serde_json::from_str(text).map_err(ReplayError::Json)?;
        let map = value
            .as_object()
            .ok_or(ReplayError::NotAnObject("the case"))?;
        let top = Keys { map, prefix: "" };
        let inputs = Keys {
            map: map
                .get("inputs")
                .ok_or_else(|| ReplayError::Missing("inputs".to_owned()))?
                .as_object()
                .ok_or(ReplayError::NotAnObject("inputs"))?,
            prefix: "inputs.",
        };
        let hidden = [
            ("activation", top.is_set("activation")),
            ("m", top.is_set("m")),
            ("inputs.W_in", inputs.is_set("W_in")),
        ];
        let mlp = if hidden.iter().any(|(_, set)| *set) {
            if let Some((missing, _)) = hidden.iter().find(|(_, set)| !set) {
                return Err(ReplayError::HalfMlp { missing });
            }
            Some(HiddenCase {
                activation: top.required("activation")?,
                width: top.required("m")?,
                input: top.optional("mlp_input")?.unwrap_or(MlpInput::Raw),
                weights: inputs.required("W_in")?,
            })
        } else {
            None
        };
        let case = Case {
            mlp,
            name: top.required("name")?,
            vocab: top.required("V")?,
            dim: top.required("d")?,
            len: top.required("L")?,
            samples: top.required("N")?,
            rates: Rates {
                eta: top.required("eta")?,
                gamma_w: top.required("gamma_w")?,
                gamma_v: top.required("gamma_v")?,
            },
            value_trigger: top.required("value_trigger")?,
            steps: top.optional("T")?.unwrap_or(0),
            lr_v: top.optional("lr_v")?.unwrap_or(0.0),
            lr_w: top.optional("lr_w")?.unwrap_or(0.0),
            inputs: Inputs {
                tokens: inputs.required("tokens")?,
                pos: inputs.required("pos")?,
                pi: inputs.required("pi")?,
                z_in: inputs.required("Z_in")?,
                z_out: inputs.required("Z_out")?,
                z_trig: inputs.required("z_trig")?,
                z_eos: inputs.required("z_eos")?,
                tokens_test: inputs.required("tokens_test")?,
                pos_test: inputs.required("pos_test")?,
            },
            reference: map.get("outputs").filter(|v| !v.is_null()).cloned(),
        };
        case.check()?;
        Ok(case)
    }

    /// Checks shapes and ranges.
    fn check(&self) -> Result<(), ReplayError> {
        for (key, size) in [
            ("V", self.vocab),
            ("d", self.dim),
            ("L", self.len),
            ("N", self.samples),
        ] {
            if size == 0 {
                return Err(range(key, size, "must be at least 1"));
            }
        }
        if self.steps > MAX_STEPS {
            return Err(range(
                "T",
                self.steps,
                &format!("must be at most {MAX_STEPS}"),
            ));
        }
        for (key, x) in [
            ("eta", self.rates.eta),
            ("gamma_w", self.rates.gamma_w),
            ("gamma_v", self.rates.gamma_v),
            ("lr_v", self.lr_v),
            ("lr_w", self.lr_w),
        ] {
            finite(key, x)?;
        }
        let i = &self.inputs;
        let dim = ("d", self.dim);
        for (key, table) in [("inputs.Z_in", &i.z_in), ("inputs.Z_out", &i.z_out)] {
            shape(key, "rows", table.len(), ("V", self.vocab))?;
            for (v, row) in table.iter().enumerate() {
                vector(&format!("{key}[{v}]"), row, dim)?;
            }
        }
        if let Some(mlp) = &self.mlp {
            if mlp.width == 0 {
                return Err(range("m", mlp.width, "must be at least 1"));
            }
            shape("inputs.W_in", "rows", mlp.weights.len(), ("m", mlp.width))?;
            for (k, row) in mlp.weights.iter().enumerate() {
                vector(&format!("inputs.W_in[{k}]"), row, dim)?;
            }
        }
        vector("inputs.z_trig", &i.z_trig, dim)?;
        vector("inputs.z_eos", &i.z_eos, dim)?;
        shape("inputs.pi", "entries", i.pi.len(), ("V", self.vocab))?;
        indices("inputs.pi", &i.pi, ("V", self.vocab))?;
        if Permutation::new(i.pi.clone()).is_none() {
            return Err(range(
                "inputs.pi",
                "a list with a repeated label",
                "must be a permutation of 0..V",
            ));
        }
        let test = i.tokens_test.len();
        if test == 0 {
            return Err(ReplayError::Shape {
                key: "inputs.tokens_test".to_owned(),
                unit: "rows",
                found: 0,
                expected: "at least 1".to_owned(),
            });
        }
        for (key, rows, pos_key, pos, count) in [
            (
                "inputs.tokens",
                &i.tokens,
                "inputs.pos",
                &i.pos,
                ("N", self.samples),
            ),
            (
                "inputs.tokens_test",
                &i.tokens_test,
                "inputs.pos_test",
                &i.pos_test,
                ("the rows of inputs.tokens_test", test),
            ),
        ] {
            shape(key, "rows", rows.len(), count)?;
            for (n, row) in rows.iter().enumerate() {
                let key = format!("{key}[{n}]");
                shape(&key, "entries", row.len(), ("L", self.len))?;
                indices(&key, row, ("V", self.vocab))?;
            }
            shape(pos_key, "entries", pos.len(), count)?;
            indices(pos_key, pos, ("L", self.len))?;
        }
        let width = self.mlp.as_ref().map_or(self.dim, |mlp| mlp.width);
        for (what, rows, cols) in [
            ("d x d", self.dim, self.dim),
            ("d x m", self.dim, width),
            ("tests x V", test, self.vocab),
            ("tests x d", test, self.dim),
        ] {
            if rows.checked_mul(cols).is_none_or(|n| n > MAX_ENTRIES) {
                return Err(range(
                    what,
                    format!("{rows} x {cols}"),
                    &format!("an output array may have at most {MAX_ENTRIES} entries"),
                ));
            }
        }
        Ok(())
    }

    fn batch(&self, tokens: &[Vec<u32>], pos: &[u32]) -> Batch {
        Batch {
            len: self.len,
            tokens: tokens.concat(),
            position: pos.to_vec(),
            label: tokens
                .iter()
                .zip(pos)
                .map(|(row, &p)| self.inputs.pi[row[p as usize] as usize])
                .collect(),
        }
    }
}

fn range(key: &str, found: impl ToString, allowed: &str) -> ReplayError {
    ReplayError::Range {
        key: key.to_owned(),
        found: found.to_string(),
        allowed: allowed.to_owned(),
    }
}

fn finite(key: &str, x: f64) -> Result<(), ReplayError> {
    if x.is_finite() {
        Ok(())
    } else {
        Err(range(key, x, "must be a finite number"))
    }
}

fn shape(
    key: &str,
    unit: &'static str,
    found: usize,
    (name, size): (&str, usize),
) -> Result<(), ReplayError> {
    if found == size {
        return Ok(());
    }
    Err(ReplayError::Shape {
        key: key.to_owned(),
        unit,
        found,
        expected: format!("{name} = {size}"),
    })
}

fn vector(key: &str, x: &[f64], size: (&str, usize)) -> Result<(), ReplayError> {
    shape(key, "entries", x.len(), size)?;
    x.iter()
        .enumerate()
        .try_for_each(|(j, &x)| finite(&format!("{key}[{j}]"), x))
}

fn indices(key: &str, x: &[u32], (name, bound): (&str, usize)) -> Result<(), ReplayError> {
    match x.iter().position(|&i| i as usize >= bound) {
        None => Ok(()),
        Some(j) => Err(range(
            &format!("{key}[{j}]"),
            x[j],
            &format!("must be below {name} = {bound}"),
        )),
    }
}

/// Everything that a replay computes, under the names of the reference file. A margin is
/// `None` (null) when there is only one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(non_snake_case)]
pub struct Outputs {
    /// Value matrix after the first step.
    pub V1: Vec<Vec<f64>>,
    /// Key-query matrix after the second step.
    pub W1: Vec<Vec<f64>>,
    /// `W1 z_eos`.
    pub q1: Vec<f64>,
    /// Value matrix after the third step.
    pub V2: Vec<Vec<f64>>,
    /// Training labels.
    pub y: Vec<u32>,
    /// Training loss at (0,0), (V1,0), (V1,W1), (V2,W1).
    pub loss: Vec<f64>,
    /// Training accuracy at the same four states.
    pub train_acc: Vec<f64>,
    /// Smallest training margin at the same four states.
    pub train_min_margin: Vec<Option<f64>>,
    /// Mean attention weight on the informative position at the same four states.
    pub att_on_trigger: Vec<f64>,
    /// Share of training samples whose attention peaks there, at the same four states.
    pub att_argmax_hit: Vec<f64>,
    /// Attention weights on the training batch at W1.
    pub train_alpha: Vec<Vec<f64>>,
    /// `q1 . z_trig`.
    pub trig_score: f64,
    /// `Z_in q1`.
    pub token_scores: Vec<f64>,
    /// Test logits at (V2, W1).
    pub test_logits: Vec<Vec<f64>>,
    /// Test attention weights at W1.
    pub test_alpha: Vec<Vec<f64>>,
    /// Test attention outputs at W1.
    pub test_h: Vec<Vec<f64>>,
    /// Test labels.
    pub test_y: Vec<u32>,
    /// Test accuracy at (V2, W1).
    pub test_acc: f64,
    /// Smallest test margin at (V2, W1).
    pub test_min_margin: Option<f64>,
    /// Test logits at (V1, 0).
    pub test_logits_V1: Vec<Vec<f64>>,
    /// Test accuracy at (V1, 0).
    pub test_acc_V1: f64,
    /// Smallest test margin at (V1, 0).
    pub test_min_margin_V1: Option<f64>,
    /// Training loss after 0, 1, ..., T joint steps.
    pub gd_loss: Vec<f64>,
    /// Training accuracy likewise.
    pub gd_train_acc: Vec<f64>,
    /// Smallest training margin likewise.
    pub gd_train_min_margin: Vec<Option<f64>>,
    /// Value matrix after T joint steps.
    pub gd_V: Vec<Vec<f64>>,
    /// Key-query matrix after T joint steps.
    pub gd_W: Vec<Vec<f64>>,
    /// Test logits after T joint steps.
    pub gd_test_logits: Vec<Vec<f64>>,
    /// Test accuracy after T joint steps.
    pub gd_test_acc: f64,
    /// Smallest test margin after T joint steps.
    pub gd_test_min_margin: Option<f64>,
}

/// The file that a replay writes: the case's scalars, and the outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[allow(non_snake_case, missing_docs)]
pub struct Report<'a> {
    pub name: &'a str,
    pub V: usize,
    pub d: usize,
    pub L: usize,
    pub N: usize,
    pub m: Option<usize>,
    pub eta: f64,
    pub gamma_w: f64,
    pub gamma_v: f64,
    pub activation: Option<Activation>,
    pub value_trigger: bool,
    pub T: usize,
    pub lr_v: f64,
    pub lr_w: f64,
    pub outputs: &'a Outputs,
}

impl<'a> Report<'a> {
    /// Sets a case's scalars beside its outputs.
    #[must_use]
    pub fn new(case: &'a Case, outputs: &'a Outputs) -> Self {
        Report {
            name: &case.name,
            V: case.vocab,
            d: case.dim,
            L: case.len,
            N: case.samples,
            m: case.mlp.as_ref().map(|mlp| mlp.width),
            eta: case.rates.eta,
            gamma_w: case.rates.gamma_w,
            gamma_v: case.rates.gamma_v,
            activation: case.mlp.as_ref().map(|mlp| mlp.activation),
            value_trigger: case.value_trigger,
            T: case.steps,
            lr_v: case.lr_v,
            lr_w: case.lr_w,
            outputs,
        }
    }
}

/// Replays a case in double precision.
///
/// # Errors
/// If the case is inconsistent or training overflows.
pub fn replay(case: &Case) -> Result<Outputs, ReplayError> {
    replay_as::<f64>(case)
}

/// Replays a case in the chosen precision.
///
/// # Errors
/// If the case is inconsistent or training overflows.
pub fn replay_as<R: Real>(case: &Case) -> Result<Outputs, ReplayError> {
    case.check()?;
    let real = |x: &[f64]| -> Vec<R> { x.iter().map(|&x| R::from_f64(x)).collect() };
    let table = |rows: &[Vec<f64>]| {
        Table::Dense(Matrix::from_vec(case.vocab, case.dim, real(&rows.concat())))
    };
    let i = &case.inputs;
    let embeddings = Embeddings {
        input: table(&i.z_in),
        output: table(&i.z_out),
        trigger: Some(real(&i.z_trig)),
    };
    let query = real(&i.z_eos);
    let train = case.batch(&i.tokens, &i.pos);
    let test = case.batch(&i.tokens_test, &i.pos_test);
    let hidden = case.mlp.as_ref().map(|mlp| Hidden {
        activation: mlp.activation,
        input: mlp.input,
        weights: Matrix::from_vec(mlp.width, case.dim, real(&mlp.weights.concat())),
    });
    let seen = |batch| {
        Problem::new(&embeddings, &query, batch, case.value_trigger)?.with_hidden(hidden.as_ref())
    };
    let (problem, fresh) = (seen(&train)?, seen(&test)?);

    let at_zero = exact::evaluate_zero(&problem);
    let one = exact::step_one(&problem, case.rates.eta);
    let (two, after_one) = exact::step_two(&problem, &one, case.rates.gamma_w);
    let (three, after_two) = exact::step_three(&problem, &two, case.rates.gamma_v);
    let mut state = three.clone();
    let mut path = Vec::new();
    for step in 0..case.steps {
        let seen = exact::joint_step(&problem, &mut state, case.lr_v, case.lr_w);
        if !seen.loss.is_finite() {
            return Err(ReplayError::NotFinite {
                key: format!("gd_loss[{step}]"),
            });
        }
        path.push(seen);
    }
    path.push(exact::evaluate(&problem, &state));
    let train_seen = [at_zero, after_one, after_two, path[0]];

    // W is w z_eos^T with w = q / |z_eos|^2, and stays zero when z_eos is zero.
    let outer = |q: &[R]| -> Vec<Vec<f64>> {
        let norm2 = problem.query_norm2();
        let entry = |q: f64, z: f64| if norm2 > 0.0 { q / norm2 * z } else { 0.0 };
        q.iter()
            .map(|q| {
                query
                    .iter()
                    .map(|z| entry(q.to_f64(), z.to_f64()))
                    .collect()
            })
            .collect()
    };
    let (token_scores, trig_score) = exact::attention_scores(&problem, &two);
    let (train_alpha, _, _) = observe(&problem, &two);
    let (test_alpha, test_h, test_logits) = observe(&fresh, &three);
    let (_, _, test_logits_1) = observe(&fresh, &one);
    let (_, _, gd_test_logits) = observe(&fresh, &state);
    let test_3 = exact::evaluate(&fresh, &three);
    let test_1 = exact::evaluate(&fresh, &one);
    let test_gd = exact::evaluate(&fresh, &state);

    let outputs = Outputs {
        V1: nested(&one.value),
        W1: outer(&two.query_key),
        q1: two.query_key.iter().map(|x| x.to_f64()).collect(),
        V2: nested(&three.value),
        y: train.label.clone(),
        loss: train_seen.iter().map(|e| e.loss).collect(),
        train_acc: train_seen.iter().map(Evaluation::accuracy).collect(),
        train_min_margin: train_seen.iter().map(margin).collect(),
        att_on_trigger: train_seen.iter().map(|e| e.attention_mean).collect(),
        att_argmax_hit: train_seen
            .iter()
            .map(Evaluation::attention_hit_rate)
            .collect(),
        train_alpha,
        trig_score,
        token_scores,
        test_logits,
        test_alpha,
        test_h,
        test_y: test.label.clone(),
        test_acc: test_3.accuracy(),
        test_min_margin: margin(&test_3),
        test_logits_V1: test_logits_1,
        test_acc_V1: test_1.accuracy(),
        test_min_margin_V1: margin(&test_1),
        gd_loss: path.iter().map(|e| e.loss).collect(),
        gd_train_acc: path.iter().map(Evaluation::accuracy).collect(),
        gd_train_min_margin: path.iter().map(margin).collect(),
        gd_V: nested(&state.value),
        gd_W: outer(&state.query_key),
        gd_test_logits,
        gd_test_acc: test_gd.accuracy(),
        gd_test_min_margin: margin(&test_gd),
    };
    match outputs.first_not_finite() {
        None => Ok(outputs),
        Some(key) => Err(ReplayError::NotFinite {
            key: key.to_owned(),
        }),
    }
}

/// `None` when there is no other class.
fn margin(e: &Evaluation) -> Option<f64> {
    (e.min_margin != f64::INFINITY).then_some(e.min_margin)
}

fn nested<R: Real>(m: &Matrix<R>) -> Vec<Vec<f64>> {
    (0..m.rows())
        .map(|i| m.row(i).iter().map(|x| x.to_f64()).collect())
        .collect()
}

type Rows = Vec<Vec<f64>>;

/// Attention weights, attention outputs and logits of every sample.
fn observe<R: Real>(problem: &Problem<'_, R>, state: &State<R>) -> (Rows, Rows, Rows) {
    let (mut alpha, mut context, mut logits) = (Rows::new(), Rows::new(), Rows::new());
    let widen = |x: &[R]| x.iter().map(|x| x.to_f64()).collect();
    exact::forward(problem, state, |chunk| {
        alpha.extend(chunk.alpha.rows().map(<[f64]>::to_vec));
        context.extend(chunk.context.rows().map(widen));
        logits.extend(chunk.logits.rows().map(widen));
    });
    (alpha, context, logits)
}

impl Outputs {
    /// Name of the first output that holds an infinity or a NaN.
    fn first_not_finite(&self) -> Option<&'static str> {
        let rows = |x: &[Vec<f64>]| x.iter().flatten().all(|x| x.is_finite());
        let list = |x: &[f64]| x.iter().all(|x| x.is_finite());
        let some = |x: &[Option<f64>]| x.iter().flatten().all(|x| x.is_finite());
        [
            ("V1", rows(&self.V1)),
            ("q1", list(&self.q1)),
            ("W1", rows(&self.W1)),
            ("V2", rows(&self.V2)),
            ("loss", list(&self.loss)),
            ("train_min_margin", some(&self.train_min_margin)),
            ("att_on_trigger", list(&self.att_on_trigger)),
            ("train_alpha", rows(&self.train_alpha)),
            ("trig_score", self.trig_score.is_finite()),
            ("token_scores", list(&self.token_scores)),
            ("test_logits", rows(&self.test_logits)),
            ("test_alpha", rows(&self.test_alpha)),
            ("test_h", rows(&self.test_h)),
            ("test_min_margin", some(&[self.test_min_margin])),
            ("test_logits_V1", rows(&self.test_logits_V1)),
            ("test_min_margin_V1", some(&[self.test_min_margin_V1])),
            ("gd_loss", list(&self.gd_loss)),
            ("gd_train_min_margin", some(&self.gd_train_min_margin)),
            ("gd_V", rows(&self.gd_V)),
            ("gd_W", rows(&self.gd_W)),
            ("gd_test_logits", rows(&self.gd_test_logits)),
            ("gd_test_min_margin", some(&[self.gd_test_min_margin])),
        ]
        .into_iter()
        .find_map(|(key, fine)| (!fine).then_some(key))
    }
}

/// How a deviation was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Frobenius norm of the difference over that of the reference.
    Relative,
    /// Largest absolute difference (losses, and arrays whose reference is zero).
    Absolute,
    /// Largest absolute difference of margins, over the largest reference margin when that
    /// exceeds one: margins inherit the absolute error of logits.
    Margin,
    /// Number of entries that differ, where both are meaningful.
    Count,
    /// The reference has an output that this program does not know.
    Unknown,
}

/// One output beside its reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deviation {
    /// Name of the output.
    pub name: String,
    /// How it was measured.
    pub measure: Measure,
    /// The deviation.
    pub value: f64,
}

impl Deviation {
    /// Whether it passes: counts must be zero, everything else at most `tolerance`.
    #[must_use]
    pub fn within(&self, tolerance: f64) -> bool {
        match self.measure {
            Measure::Count => self.value == 0.0,
            Measure::Unknown => false,
            Measure::Relative | Measure::Absolute | Measure::Margin => self.value <= tolerance,
        }
    }
}

/// Compares outputs with the `outputs` object of a reference file, one deviation per key of
/// the reference. Accuracies count only where the reference margin exceeds 1e-10; attention
/// hits only where the attention is not uniform by construction.
///
/// # Errors
/// If a reference array has another shape, naming it.
pub fn compare(outputs: &Outputs, reference: &Value) -> Result<Vec<Deviation>, ReplayError> {
    let reference = reference
        .as_object()
        .ok_or(ReplayError::NotAnObject("outputs"))?;
    let ours = serde_json::to_value(outputs).map_err(ReplayError::Json)?;
    let mut found = Vec::with_capacity(reference.len());
    for (name, theirs) in reference {
        if theirs.is_null() {
            continue;
        }
        let mut pairs = Vec::new();
        let (measure, value) = match ours.get(name) {
            None => (Measure::Unknown, f64::INFINITY),
            Some(ours) => {
                pair(&format!("outputs.{name}"), ours, theirs, &mut pairs)?;
                deviation(name, &pairs, reference)
            }
        };
        found.push(Deviation {
            name: name.clone(),
            measure,
            value,
        });
    }
    Ok(found)
}

fn deviation(name: &str, pairs: &[(f64, f64)], reference: &Map<String, Value>) -> (Measure, f64) {
    let largest = pairs.iter().fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
    let differ = |meaningful: &dyn Fn(usize) -> bool| {
        let count = pairs.iter().enumerate();
        (
            Measure::Count,
            count.filter(|(t, (a, b))| meaningful(*t) && a != b).count() as f64,
        )
    };
    let entry = |key: &str, t: usize| match reference.get(key) {
        Some(Value::Array(x)) => x.get(t).and_then(Value::as_f64),
        Some(x) => x.as_f64(),
        None => None,
    };
    let zero = |x: &Value| x.as_f64() == Some(0.0);
    let uniform = match reference.get("q1") {
        Some(Value::Array(q)) => q.iter().all(zero),
        _ => false,
    };
    let safe =
        |key: &'static str| move |t: usize| entry(key, t).is_none_or(|margin| margin > SAFE_MARGIN);
    match name {
        "loss" | "gd_loss" => (Measure::Absolute, largest),
        "y" | "test_y" => differ(&|_| true),
        "train_acc" => differ(&safe("train_min_margin")),
        "test_acc" => differ(&safe("test_min_margin")),
        "test_acc_V1" => differ(&safe("test_min_margin_V1")),
        "gd_train_acc" => differ(&safe("gd_train_min_margin")),
        "gd_test_acc" => differ(&safe("gd_test_min_margin")),
        "att_argmax_hit" => differ(&|t| t >= 2 && !uniform),
        _ if name.contains("min_margin") => {
            let scale = pairs.iter().fold(1.0f64, |m, (_, b)| m.max(b.abs()));
            (Measure::Margin, largest / scale)
        }
        _ => {
            // Scaled, so that squares neither overflow nor vanish.
            let size = pairs.iter().fold(0.0f64, |m, (_, b)| m.max(b.abs()));
            let norm = |x: &mut dyn Iterator<Item = f64>| {
                x.map(|x| (x / size).powi(2)).sum::<f64>().sqrt()
            };
            if size == 0.0 {
                (Measure::Absolute, largest)
            } else {
                let gap = norm(&mut pairs.iter().map(|(a, b)| a - b));
                (
                    Measure::Relative,
                    gap / norm(&mut pairs.iter().map(|(_, b)| *b)),
                )
            }
        }
    }
}

/// Collects the numbers of two equally nested arrays.
fn pair(
    key: &str,
    ours: &Value,
    theirs: &Value,
    pairs: &mut Vec<(f64, f64)>,
) -> Result<(), ReplayError> {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => {
            shape(key, "entries", b.len(), ("the replay's", a.len()))?;
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                pair(&format!("{key}[{i}]"), a, b, pairs)?;
            }
            Ok(())
        }
        (Value::Null, Value::Null) => Ok(()),
        _ => match (ours.as_f64(), theirs.as_f64()) {
            (Some(a), Some(b)) => {
                pairs.push((a, b));
                Ok(())
            }
            (_, None) => Err(range(key, theirs, "must be a number here")),
            (None, _) => Err(range(key, theirs, "must be null here: there is one class")),
        },
    }
}
