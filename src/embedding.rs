//! Embedding tables: random Gaussian, uniform on the sphere, or orthonormal.
//!
//! An orthonormal table of `V` tokens is the identity in `R^V`; it is never
//! stored. Its trigger and query are orthonormal to all tokens and to each
//! other (two further dimensions that no token uses).

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use recall_theory::{Embedding as Law, Setting};

use crate::linalg::{Matrix, Real};
use crate::rng::{Purpose, StreamKey};

/// One embedding table; rows are tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Table<R> {
    /// `V x d`, stored.
    Dense(Matrix<R>),
    /// The identity of `R^V`, not stored.
    Orthonormal {
        /// Vocabulary size.
        vocab: usize,
    },
}

impl<R: Real> Table<R> {
    /// Draws a table.
    #[must_use]
    pub fn draw(law: Law, vocab: usize, dim: usize, rng: &mut ChaCha8Rng) -> Self {
        match law {
            Law::Orthonormal => Table::Orthonormal { vocab },
            Law::Gaussian | Law::Sphere => {
                let mut table = Matrix::zeros(vocab, dim);
                for v in 0..vocab {
                    draw_vector(law, rng, table.row_mut(v));
                }
                Table::Dense(table)
            }
        }
    }

    /// Number of tokens.
    #[must_use]
    pub fn vocab(&self) -> usize {
        match self {
            Table::Dense(z) => z.rows(),
            Table::Orthonormal { vocab } => *vocab,
        }
    }

    /// Coordinates in which step gradients are held: `d`, or `V` if orthonormal.
    #[must_use]
    pub fn dim(&self) -> usize {
        match self {
            Table::Dense(z) => z.cols(),
            Table::Orthonormal { vocab } => *vocab,
        }
    }
}

/// Fills `row` with one embedding vector of the law (a unit vector law for `Sphere`).
fn draw_vector<R: Real>(law: Law, rng: &mut ChaCha8Rng, row: &mut [R]) {
    // Draws are made in f64 for every precision, so that f32 and f64 see the same vectors.
    let values: Vec<f64> = (0..row.len()).map(|_| StandardNormal.sample(rng)).collect();
    let scale = match law {
        Law::Sphere => values.iter().map(|x| x * x).sum::<f64>().sqrt(),
        Law::Gaussian | Law::Orthonormal => (row.len() as f64).sqrt(),
    };
    for (x, value) in row.iter_mut().zip(values) {
        *x = R::from_f64(value / scale);
    }
}

/// All fixed vectors of a trial.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings<R> {
    /// Input table, `V x d_in`.
    pub input: Table<R>,
    /// Output table, `V x d_out`.
    pub output: Table<R>,
    /// Trigger `z_trig` in `R^{d_in}`; `None` when orthonormal to every token (norm one).
    pub trigger: Option<Vec<R>>,
}

impl<R: Real> Embeddings<R> {
    /// Draws the tables and the trigger of a trial, each from its own stream.
    ///
    /// The query `z_EOS` is not drawn here: in the small-step limit it enters through its norm
    /// alone, which the attention strength absorbs. See [`Embeddings::draw_query`].
    #[must_use]
    pub fn draw(setting: &Setting, key: &StreamKey) -> Self {
        let s = setting;
        let trigger = (s.input != Law::Orthonormal).then(|| {
            let mut z = vec![R::default(); s.dim_in];
            draw_vector(s.input, &mut key.stream(Purpose::Trigger), &mut z);
            z
        });
        Embeddings {
            input: Table::draw(
                s.input,
                s.vocab,
                s.dim_in,
                &mut key.stream(Purpose::InputEmbedding),
            ),
            output: Table::draw(
                s.output,
                s.vocab,
                s.dim_out,
                &mut key.stream(Purpose::OutputEmbedding),
            ),
            trigger,
        }
    }

    /// Draws the query `z_EOS` from its own stream: the law of the input embedding; one
    /// coordinate of length one where that is orthonormal (only its norm enters).
    #[must_use]
    pub fn draw_query(&self, law: Law, key: &StreamKey) -> Vec<R> {
        match &self.input {
            Table::Orthonormal { .. } => vec![R::from_f64(1.0)],
            Table::Dense(z) => {
                let mut query = vec![R::default(); z.cols()];
                draw_vector(law, &mut key.stream(Purpose::Query), &mut query);
                query
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(law: Law, vocab: usize, dim: usize) -> (Embeddings<f64>, Vec<f64>) {
        let setting = Setting::new(vocab, dim, 4, 10).with_embeddings(law, law);
        let key = StreamKey::from_text("embedding tests");
        let e = Embeddings::draw(&setting, &key);
        let query = e.draw_query(law, &key);
        (e, query)
    }

    fn dense(table: &Table<f64>) -> &Matrix<f64> {
        match table {
            Table::Dense(z) => z,
            Table::Orthonormal { .. } => panic!("dense by construction"),
        }
    }

    fn norm2(x: &[f64]) -> f64 {
        x.iter().map(|x| x * x).sum()
    }

    #[test]
    fn vectors_have_the_lengths_of_their_law() {
        let (vocab, dim) = (2000, 20);
        let (e, query) = drawn(Law::Sphere, 50, dim);
        for z in [&e.input, &e.output] {
            for v in 0..50 {
                assert!((norm2(dense(z).row(v)) - 1.0).abs() < 1e-12);
            }
        }
        assert!((norm2(e.trigger.as_ref().unwrap()) - 1.0).abs() < 1e-12);
        assert!((norm2(&query) - 1.0).abs() < 1e-12);
        // A squared Gaussian length has mean 1 and variance 2/d: five standard errors.
        let (e, _) = drawn(Law::Gaussian, vocab, dim);
        for z in [&e.input, &e.output] {
            let mean = norm2(dense(z).data()) / vocab as f64;
            let se = (2.0 / (dim * vocab) as f64).sqrt();
            assert!((mean - 1.0).abs() < 5.0 * se, "{mean}");
        }
    }

    #[test]
    fn the_vectors_of_a_trial_are_drawn_from_streams_of_their_own() {
        let (e, query) = drawn(Law::Gaussian, 6, 5);
        let mut entries: Vec<f64> = dense(&e.input).data().to_vec();
        entries.extend_from_slice(dense(&e.output).data());
        entries.extend_from_slice(e.trigger.as_ref().unwrap());
        entries.extend_from_slice(&query);
        let all = entries.len();
        entries.sort_by(f64::total_cmp);
        entries.dedup();
        assert_eq!(entries.len(), all, "a draw occurs twice");
    }
}
