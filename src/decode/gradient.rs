//! The first gradient from counts, and the noisy oracle.

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::embedding::{Embeddings, Table};
use crate::linalg::{Matrix, Real, gemm};
use crate::task::Batch;

/// What a decoder sees: `G = Z_in^T S C Z_out` with `S[v, j]` the number of times token `v` stands
/// in sequences of label `j` (so `G` is the first gradient times `N L` over the step size), the
/// embeddings, and the label counts.
///
/// A trigger in the values adds to `G` a function of the label counts and the embeddings; it is
/// known and left out.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstGradient {
    /// `G`, `d_in x d_out`.
    pub(super) gradient: Matrix<f64>,
    /// `Z_in`, `V x d_in`.
    pub(super) input: Matrix<f64>,
    /// `C Z_out`, `V x d_out`.
    pub(super) output: Matrix<f64>,
    /// `n_j`, number of samples by label.
    pub(super) counts: Vec<f64>,
    /// Sequence length `L`.
    pub(super) len: f64,
}

impl FirstGradient {
    /// The exact gradient of a batch.
    #[must_use]
    pub fn new<R: Real>(embeddings: &Embeddings<R>, batch: &Batch) -> Self {
        let vocab = embeddings.input.vocab();
        let (table, counts) = tables(vocab, batch);
        Self::of_counts(embeddings, &table, counts, batch.len)
    }

    /// The gradient plus independent Gaussian noise of `kappa` times the covariance of the
    /// gradient's own sampling noise given label counts and embeddings,
    /// `kappa (L-1)/V (Z_in^T C Z_in) x (Z_out^T C D_n C Z_out)`.
    ///
    /// The noise is drawn as a table of counts, `sqrt(kappa (L-1)/V) C W D_n^{1/2}` with `W` of
    /// independent standard normals, `V^2` draws label by label.
    #[must_use]
    pub fn noisy<R: Real>(
        embeddings: &Embeddings<R>,
        batch: &Batch,
        kappa: f64,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let vocab = embeddings.input.vocab();
        let (mut table, counts) = tables(vocab, batch);
        add_noise(&mut table, &counts, kappa, batch.len, rng);
        Self::of_counts(embeddings, &table, counts, batch.len)
    }

    /// From any real table of counts `S`, `V x V`.
    pub(super) fn of_counts<R: Real>(
        embeddings: &Embeddings<R>,
        table: &Matrix<f64>,
        counts: Vec<f64>,
        len: usize,
    ) -> Self {
        let input = dense(&embeddings.input);
        let mut output = dense(&embeddings.output);
        output.centre_rows();
        let mut read = Matrix::zeros(input.cols(), table.cols());
        gemm(1.0, input.view().t(), table.view(), 0.0, read.data_mut());
        let mut gradient = Matrix::zeros(input.cols(), output.cols());
        gemm(1.0, read.view(), output.view(), 0.0, gradient.data_mut());
        FirstGradient {
            gradient,
            input,
            output,
            counts,
            len: len as f64,
        }
    }

    /// `Z~_in^T S Z~_out`: the gradient less its part that label counts and embeddings fix,
    /// `L mu (Z~_out^T n)^T` with `mu` the mean input vector; and the centred input table.
    pub(super) fn centred(&self) -> (Matrix<f64>, Matrix<f64>) {
        let mut input = self.input.clone();
        let mean = input.centre_rows();
        let mut labels = vec![0.0; self.output.cols()];
        for (j, n) in self.counts.iter().enumerate() {
            for (x, z) in labels.iter_mut().zip(self.output.row(j)) {
                *x += n * z;
            }
        }
        let mut gradient = self.gradient.clone();
        for (k, m) in mean.iter().enumerate() {
            for (g, x) in gradient.row_mut(k).iter_mut().zip(&labels) {
                *g -= self.len * m * x;
            }
        }
        (gradient, input)
    }
}

/// The counts `S` and the label counts `n` of a batch.
fn tables(vocab: usize, batch: &Batch) -> (Matrix<f64>, Vec<f64>) {
    let mut table = Matrix::zeros(vocab, vocab);
    let mut counts = vec![0.0; vocab];
    for (n, &label) in batch.label.iter().enumerate() {
        counts[label as usize] += 1.0;
        for &token in batch.sequence(n) {
            table.row_mut(token as usize)[label as usize] += 1.0;
        }
    }
    (table, counts)
}

pub(super) fn add_noise(
    table: &mut Matrix<f64>,
    counts: &[f64],
    kappa: f64,
    len: usize,
    rng: &mut ChaCha8Rng,
) {
    let vocab = counts.len();
    let scale = kappa * (len as f64 - 1.0) / vocab as f64;
    let mut column = vec![0.0; vocab];
    for (j, n) in counts.iter().enumerate() {
        column.fill_with(|| StandardNormal.sample(rng));
        let mean = column.iter().sum::<f64>() / vocab as f64;
        let sd = (scale * n).sqrt();
        for (v, x) in column.iter().enumerate() {
            table.row_mut(v)[j] += sd * (x - mean);
        }
    }
}

/// The table in doubles; an orthonormal one is the identity.
fn dense<R: Real>(table: &Table<R>) -> Matrix<f64> {
    match table {
        Table::Dense(z) => {
            let data = z.data().iter().map(|x| x.to_f64()).collect();
            Matrix::from_vec(z.rows(), z.cols(), data)
        }
        Table::Orthonormal { vocab } => {
            let mut z = Matrix::zeros(*vocab, *vocab);
            for v in 0..*vocab {
                z.row_mut(v)[v] = 1.0;
            }
            z
        }
    }
}
