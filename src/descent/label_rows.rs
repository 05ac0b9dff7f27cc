//! Value gradients from counts, one block of labels at a time.
//!
//! Every value gradient of this task has the form
//! `V = sum_j zc_out(j) (sum_v H[j, v] z_in(v) + h_j z_trig)^T`, with `H` the `V x V` table of
//! (label, attended token) weights, `h` the weight that the trigger receives and `zc_out` the
//! centred output table. [`LabelRows`] produces `H` row by row, so that neither `H` nor a
//! `V x V` score table is ever held: a block of rows lives in cache.

use crate::embedding::{Embeddings, Table};
use crate::linalg::{Matrix, Real, View, dot, gemm, gemv};
use crate::simd::{Kernel, widest};

/// Labels, and pairs, that [`ValueMap::wins`] scores at a time.
const PAIR_LABELS: usize = 256;
const PAIR_ROWS: usize = 512;

/// Whether a score loses to a line of others, also to equals before `split`.
struct Beaten<'k, R> {
    line: &'k [R],
    split: usize,
    own: R,
}

impl<R: Real> Kernel for Beaten<'_, R> {
    type Output = bool;
    #[inline(always)]
    fn run(self) -> bool {
        let mut beaten = false;
        for x in &self.line[..self.split] {
            beaten |= *x >= self.own;
        }
        for x in &self.line[self.split..] {
            beaten |= *x > self.own;
        }
        beaten
    }
}

/// Produces row `j` of the weight table `H` (added into a zeroed slice of length `V`) and returns
/// the trigger weight `h_j`.
pub(crate) type LabelRows<'a, R> = dyn Fn(usize, &mut [R]) -> R + 'a;

/// Number of label rows held at a time: about 1 MiB, at least 16 rows.
fn block_rows<R>(vocab: usize) -> usize {
    ((1 << 20) / (size_of::<R>() * vocab.max(1)))
        .clamp(16, 256)
        .min(vocab)
}

/// A block of rows with at most one filled entry in so many is summed entry by entry, which costs
/// about 20 times as much an entry as a product and skips the empty ones.
const SPARSE: usize = 32;

struct IsSparse<'k, R>(&'k [R]);

impl<R: Real> Kernel for IsSparse<'_, R> {
    type Output = bool;
    #[inline(always)]
    fn run(self) -> bool {
        let mut left = (self.0.len() / SPARSE) as u32;
        // Stops at the first piece that exceeds the allowance, so a dense table costs nothing.
        for piece in self.0.chunks(1024) {
            let mut filled = 0;
            for x in piece {
                filled += u32::from(*x != R::default());
            }
            if filled > left {
                return false;
            }
            left -= filled;
        }
        true
    }
}

/// `out[j] = sum_v table[j, v] z[v]` over the entries of the table that are not zero.
struct SumRows<'k, R> {
    table: &'k [R],
    z: &'k Matrix<R>,
    out: &'k mut [R],
}

impl<R: Real> Kernel for SumRows<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run(self) {
        let (zero, z) = (R::default(), self.z);
        let rows = self.table.chunks_exact(z.rows());
        for (row, out) in rows.zip(self.out.chunks_exact_mut(z.cols())) {
            out.fill(zero);
            for (piece, weights) in row.chunks(32).enumerate() {
                // No early exit inside a piece, so that the test is a few vector instructions.
                let mut any = false;
                for w in weights {
                    any |= *w != zero;
                }
                if !any {
                    continue;
                }
                for (v, weight) in (32 * piece..).zip(weights) {
                    if *weight != zero {
                        for (sum, x) in out.iter_mut().zip(z.row(v)) {
                            *sum += *weight * *x;
                        }
                    }
                }
            }
        }
    }
}

/// Both tables with the output side centred over labels (`sum_j zc_out(j) = 0`): the gradient
/// sees the labels only through `c_n = e_y - 1/V`, and a shift common to all logits changes
/// neither a centred score nor an argmax.
#[derive(Debug)]
pub(crate) struct Sides<'a, R> {
    input: &'a Table<R>,
    output: Table<R>,
    trigger: Option<&'a [R]>,
}

impl<'a, R: Real> Sides<'a, R> {
    pub(crate) fn new(embeddings: &'a Embeddings<R>) -> Self {
        let mut output = embeddings.output.clone();
        if let Table::Dense(z) = &mut output {
            z.centre_rows();
        }
        Sides {
            input: &embeddings.input,
            output,
            trigger: embeddings.trigger.as_deref(),
        }
    }

    pub(crate) fn vocab(&self) -> usize {
        self.input.vocab()
    }

    /// `<z_in(v), z_trig>` for every token, and `|z_trig|^2`.
    pub(crate) fn trigger_gram(&self) -> (Vec<f64>, f64) {
        match (self.input, self.trigger) {
            (Table::Dense(z), Some(t)) => (
                (0..z.rows()).map(|v| dot(z.row(v), t).to_f64()).collect(),
                dot(t, t).to_f64(),
            ),
            _ => (vec![0.0; self.vocab()], 1.0),
        }
    }

    /// `Z_in Z_in^T a`: the token scores of a query `Z_in^T a`.
    pub(crate) fn token_scores(&self, a: &[f64]) -> Vec<f64> {
        match self.input {
            Table::Orthonormal { .. } => a.to_vec(),
            Table::Dense(z) => {
                let query = self
                    .query(a)
                    .unwrap_or_else(|| vec![R::default(); z.cols()]);
                let mut scores = vec![R::default(); z.rows()];
                gemv(z.view(), &query, &mut scores);
                scores.iter().map(|x| x.to_f64()).collect()
            }
        }
    }

    /// `Z_in^T a` in `R^{d_in}`; `None` when the input table is not stored.
    pub(crate) fn query(&self, a: &[f64]) -> Option<Vec<R>> {
        let Table::Dense(z) = self.input else {
            return None;
        };
        let a: Vec<R> = a.iter().map(|x| R::from_f64(*x)).collect();
        let mut query = vec![R::default(); z.cols()];
        gemv(z.view().t(), &a, &mut query);
        Some(query)
    }
}

/// A value matrix `V` made from label rows, with what is needed to score with it.
#[derive(Debug)]
pub(crate) enum ValueMap<R> {
    /// Stored in the coordinates of the two sides, `k_out x k_in`.
    Stored {
        matrix: Matrix<R>,
        /// `V z_trig`, length `k_out`.
        trigger: Vec<R>,
    },
    /// Both sides orthonormal: the table itself, regenerated on demand.
    OneHot {
        /// Mean row over labels.
        mean: Vec<R>,
        /// Centred trigger weights by label.
        trigger: Vec<R>,
    },
}

impl<R: Real> ValueMap<R> {
    /// Accumulates the rows; `O(V^2)` to make them plus one `V x V x d` product per dense side.
    pub(crate) fn accumulate(sides: &Sides<'_, R>, rows: &LabelRows<'_, R>) -> Self {
        let vocab = sides.vocab();
        let block = block_rows::<R>(vocab);
        let (one, zero) = (R::from_f64(1.0), R::default());
        let mut weights = vec![zero; vocab];
        let one_hot = matches!(
            (&sides.output, sides.input),
            (Table::Orthonormal { .. }, Table::Orthonormal { .. })
        );
        let mut mean = vec![0.0f64; vocab];
        let mut matrix = if one_hot {
            Matrix::zeros(0, 0)
        } else {
            Matrix::zeros(sides.output.dim(), sides.input.dim())
        };
        let mut table = vec![zero; block * vocab];
        let mut projected = vec![zero; block * sides.input.dim()];
        for from in (0..vocab).step_by(block) {
            let to = (from + block).min(vocab);
            let count = to - from;
            let table = &mut table[..count * vocab];
            table.fill(zero);
            for (row, j) in table.chunks_exact_mut(vocab).zip(from..to) {
                weights[j] = rows(j, row);
            }
            if one_hot {
                for row in table.chunks_exact(vocab) {
                    mean.iter_mut().zip(row).for_each(|(m, x)| *m += x.to_f64());
                }
                continue;
            }
            let width = sides.input.dim();
            let input: View<'_, R> = match sides.input {
                Table::Orthonormal { .. } => View::new(table, count, vocab),
                Table::Dense(z) => {
                    let out = &mut projected[..count * width];
                    if widest(IsSparse(table)) {
                        widest(SumRows { table, z, out });
                    } else {
                        gemm(one, View::new(table, count, vocab), z.view(), zero, out);
                    }
                    View::new(out, count, width)
                }
            };
            match &sides.output {
                Table::Dense(z) => {
                    gemm(
                        one,
                        z.rows_view(from, to).t(),
                        input,
                        one,
                        matrix.data_mut(),
                    );
                }
                Table::Orthonormal { .. } => {
                    let target = &mut matrix.data_mut()[from * width..to * width];
                    input.copy_rows_to(target);
                }
            }
        }
        if one_hot {
            let n = vocab as f64;
            let shift = weights.iter().map(|w| w.to_f64()).sum::<f64>() / n;
            return ValueMap::OneHot {
                mean: mean.iter().map(|m| R::from_f64(m / n)).collect(),
                trigger: weights.iter().map(|w| *w - R::from_f64(shift)).collect(),
            };
        }
        // zc_out^T h, the column that the trigger's own weight adds.
        let mut column = match &sides.output {
            Table::Dense(z) => {
                let mut column = vec![zero; z.cols()];
                gemv(z.view().t(), &weights, &mut column);
                column
            }
            Table::Orthonormal { .. } => {
                matrix.centre_rows();
                let shift = weights.iter().map(|w| w.to_f64()).sum::<f64>() / vocab as f64;
                weights.iter().map(|w| *w - R::from_f64(shift)).collect()
            }
        };
        if let (Table::Dense(_), Some(trigger)) = (sides.input, sides.trigger) {
            for (i, c) in column.iter().enumerate() {
                for (x, t) in matrix.row_mut(i).iter_mut().zip(trigger) {
                    *x += *c * *t;
                }
            }
            let mut image = vec![zero; matrix.rows()];
            gemv(matrix.view(), trigger, &mut image);
            column = image;
        }
        ValueMap::Stored {
            matrix,
            trigger: column,
        }
    }

    /// Calls `visit(j, row, tau)` for every label in order: `row[v] = z_in(v)^T V^T zc_out(j)` and
    /// `tau = z_trig^T V^T zc_out(j)`. `rows` must be those the map was made from.
    pub(crate) fn for_each_label(
        &self,
        sides: &Sides<'_, R>,
        rows: &LabelRows<'_, R>,
        mut visit: impl FnMut(usize, &[R], R),
    ) {
        let vocab = sides.vocab();
        let block = block_rows::<R>(vocab);
        let (one, zero) = (R::from_f64(1.0), R::default());
        let mut pulled = vec![zero; block * sides.input.dim()];
        let mut scores = vec![zero; block * vocab];
        for from in (0..vocab).step_by(block) {
            let to = (from + block).min(vocab);
            let count = to - from;
            match self {
                ValueMap::OneHot { mean, .. } => {
                    let table = &mut scores[..count * vocab];
                    table.fill(zero);
                    for (row, j) in table.chunks_exact_mut(vocab).zip(from..to) {
                        rows(j, row);
                        row.iter_mut().zip(mean).for_each(|(x, m)| *x -= *m);
                    }
                }
                ValueMap::Stored { matrix, .. } => {
                    let width = sides.input.dim();
                    let image = match &sides.output {
                        Table::Orthonormal { .. } => matrix.rows_view(from, to),
                        Table::Dense(z) => {
                            let out = &mut pulled[..count * width];
                            gemm(one, z.rows_view(from, to), matrix.view(), zero, out);
                            View::new(out, count, width)
                        }
                    };
                    let out = &mut scores[..count * vocab];
                    match sides.input {
                        Table::Orthonormal { .. } => image.copy_rows_to(out),
                        Table::Dense(z) => gemm(one, image, z.view().t(), zero, out),
                    }
                }
            }
            for (row, j) in scores[..count * vocab].chunks_exact(vocab).zip(from..to) {
                visit(j, row, self.trigger_score(sides, j));
            }
        }
    }

    /// For each `(token, label)`: whether the label has the largest `z_in(v)^T V^T zc_out(j)` of
    /// all labels, the lowest label among equals. None unless both tables are dense.
    ///
    /// Labels are scored in blocks, and a pair that is beaten is left out of later blocks, so the
    /// cost of `V x V x d` falls with the share of tokens that are not recalled.
    pub(crate) fn wins(&self, sides: &Sides<'_, R>, pairs: &[(u32, u32)]) -> Option<Vec<bool>> {
        let (ValueMap::Stored { matrix, .. }, Table::Dense(input), Table::Dense(output)) =
            (self, sides.input, &sides.output)
        else {
            return None;
        };
        let (one, zero) = (R::from_f64(1.0), R::default());
        let (vocab, width) = (output.rows(), input.cols());
        let mut image = vec![zero; vocab * width];
        gemm(one, output.view(), matrix.view(), zero, &mut image);
        let image = Matrix::from_vec(vocab, width, image);
        // What is left: places in `pairs`, the score of the pair's own label, the token's row.
        let mut left: Vec<(usize, R)> = pairs
            .iter()
            .enumerate()
            .map(|(k, &(v, j))| (k, dot(input.row(v as usize), image.row(j as usize))))
            .collect();
        let mut rows = vec![zero; pairs.len() * width];
        for (row, &(v, _)) in rows.chunks_exact_mut(width).zip(pairs) {
            row.copy_from_slice(input.row(v as usize));
        }
        let block = PAIR_LABELS.min(vocab);
        let mut scores = vec![zero; PAIR_ROWS.min(pairs.len()) * block];
        let mut from = 0;
        while from < vocab && !left.is_empty() {
            // A short first block: most pairs that lose do so early.
            let to = (from + if from == 0 { block / 2 } else { block }.max(1)).min(vocab);
            let count = to - from;
            let mut kept = 0;
            for first in (0..left.len()).step_by(PAIR_ROWS) {
                let last = (first + PAIR_ROWS).min(left.len());
                let scores = &mut scores[..(last - first) * count];
                let tokens = View::new(&rows[first * width..last * width], last - first, width);
                gemm(one, tokens, image.rows_view(from, to).t(), zero, scores);
                for (k, line) in (first..last).zip(scores.chunks_exact_mut(count)) {
                    let (place, own) = left[k];
                    let label = pairs[place].1 as usize;
                    let split = label.clamp(from, to) - from;
                    if (from..to).contains(&label) {
                        // It does not compete with itself, which is the same number but for
                        // rounding.
                        line[split] = R::from_f64(f64::NEG_INFINITY);
                    }
                    if widest(Beaten { line, split, own }) {
                        continue;
                    }
                    left[kept] = left[k];
                    rows.copy_within(k * width..(k + 1) * width, kept * width);
                    kept += 1;
                }
            }
            left.truncate(kept);
            from = to;
        }
        let mut wins = vec![false; pairs.len()];
        for (place, _) in left {
            wins[place] = true;
        }
        Some(wins)
    }

    /// `z_trig^T V^T zc_out(j)`.
    fn trigger_score(&self, sides: &Sides<'_, R>, label: usize) -> R {
        match (self, &sides.output) {
            (ValueMap::Stored { trigger, .. }, Table::Dense(z)) => dot(z.row(label), trigger),
            (ValueMap::Stored { trigger, .. } | ValueMap::OneHot { trigger, .. }, _) => {
                trigger[label]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::StreamKey;
    use recall_theory::{Embedding, Setting};

    #[test]
    fn a_sparse_block_is_summed_as_a_product() {
        let (rows, vocab, dim) = (3, 70, 5);
        let z: Vec<f64> = (0..vocab * dim).map(|i| (i as f64 * 0.7).sin()).collect();
        let z = Matrix::from_vec(vocab, dim, z);
        let mut table = vec![0.0; rows * vocab];
        for (place, weight) in [
            (0, 0.5),
            (17, -2.0),
            (69, 1.5),
            (70, 3.0),
            (2 * vocab + 33, 0.25),
        ] {
            table[place] = weight;
        }
        assert!(widest(IsSparse(&table)));
        let (mut sums, mut product) = (vec![9.0; rows * dim], vec![0.0; rows * dim]);
        widest(SumRows {
            table: &table,
            z: &z,
            out: &mut sums,
        });
        gemm(
            1.0,
            View::new(&table, rows, vocab),
            z.view(),
            0.0,
            &mut product,
        );
        for (a, b) in sums.iter().zip(&product) {
            assert!((a - b).abs() < 1e-14, "{sums:?} {product:?}");
        }
    }

    #[test]
    fn pairs_win_where_the_label_is_the_first_of_the_largest() {
        let vocab = 700;
        for law in [Embedding::Gaussian, Embedding::Sphere] {
            let setting = Setting::new(vocab, 40, 4, 10).with_embeddings(law, law);
            let embeddings = Embeddings::<f64>::draw(&setting, &StreamKey::from_text("pairs"));
            let sides = Sides::new(&embeddings);
            // Strong for some tokens, weak for others, on top of noise.
            let rows = |j: usize, row: &mut [f64]| {
                for (v, x) in row.iter_mut().enumerate() {
                    *x = ((j * 37 + v * 101) as f64).sin();
                }
                row[(j * 3) % vocab] += (j % 7) as f64 * 20.0;
                0.0
            };
            let map = ValueMap::accumulate(&sides, &rows);
            let mut best = vec![(f64::NEG_INFINITY, 0); vocab];
            let mut second = best.clone();
            map.for_each_label(&sides, &rows, |j, row, _| {
                for ((best, second), x) in best.iter_mut().zip(&mut second).zip(row) {
                    let own = (*x, j as u32);
                    if *x > best.0 {
                        *second = std::mem::replace(best, own);
                    } else if *x > second.0 {
                        *second = own;
                    }
                }
            });
            // The second best is beaten by one label alone, in whichever block that is.
            let pairs: Vec<(u32, u32)> = (0..vocab)
                .flat_map(|v| {
                    let answer = best[v].1;
                    [answer, second[v].1, (answer + 1) % vocab as u32, v as u32]
                        .map(|label| (v as u32, label))
                })
                .collect();
            let expected: Vec<bool> = pairs
                .iter()
                .map(|&(v, j)| best[v as usize].1 == j)
                .collect();
            assert_eq!(map.wins(&sides, &pairs), Some(expected));
        }
        // Where nothing is learned all labels tie, and the lowest answers.
        let setting = Setting::new(5, 3, 4, 10);
        let embeddings = Embeddings::<f64>::draw(&setting, &StreamKey::from_text("pairs"));
        let sides = Sides::new(&embeddings);
        let map = ValueMap::accumulate(&sides, &|_, _: &mut [f64]| 0.0);
        let wins = map.wins(&sides, &[(2, 0), (2, 1), (0, 4), (4, 0)]);
        assert_eq!(wins, Some(vec![true, false, false, true]));
    }
}
