//! Dense kernels behind one small interface.
//!
//! Matrices are row-major. A [`View`] carries strides, so a transpose is free
//! and all four transpose variants of a product reach the same kernel
//! (nalgebra's `tr_mul` does not: it is 7 to 8 times slower). Products run on
//! the calling thread; the program parallelises over jobs.

use std::fmt::Debug;

/// Name of the kernel that made a number, stored in every record.
#[must_use]
pub fn kernel_name<R: Real>() -> String {
    format!("{}/{}/{}", product(), R::NAME, features())
}

/// The crate that does the large products.
fn product() -> &'static str {
    if wide_products() {
        "private-gemm-x86-0.1.22"
    } else {
        "matrixmultiply-0.3"
    }
}

#[cfg(target_arch = "x86_64")]
fn wide_products() -> bool {
    crate::simd::has_avx512()
}

#[cfg(not(target_arch = "x86_64"))]
fn wide_products() -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
fn features() -> &'static str {
    if is_x86_feature_detected!("avx512f") {
        "x86_64-avx512f"
    } else if is_x86_feature_detected!("fma") {
        "x86_64-fma"
    } else {
        "x86_64"
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> &'static str {
    std::env::consts::ARCH
}

/// Scalar of the simulator: `f32` or `f64`.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + 'static
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::Neg<Output = Self>
    + std::ops::AddAssign
    + std::ops::SubAssign
    + std::ops::MulAssign
{
    /// Name used in records: `f32` or `f64`.
    const NAME: &'static str;
    /// Distance from one to the next larger number.
    const EPSILON: f64;
    /// Rounds a double.
    fn from_f64(x: f64) -> Self;
    /// Widens to a double.
    fn to_f64(self) -> f64;
    /// Exponential.
    fn exp(self) -> Self;
    /// `exp(self)` for `self <= 0`, in a form that loops over slices vectorise where the type has
    /// one: within two units in the last place for `f32`, zero below the smallest normal number.
    fn exp_of_nonpositive(self) -> Self;
    /// `c <- alpha a b`, or `c <- c + alpha a b`, with raw strides; see [`gemm`] for the checked
    /// form.
    ///
    /// # Safety
    /// Every index that the shapes and strides reach must lie inside its buffer.
    #[allow(unsafe_code)]
    unsafe fn raw_gemm(
        shape: (usize, usize, usize),
        alpha: Self,
        a: (*const Self, isize, isize),
        b: (*const Self, isize, isize),
        accumulate: bool,
        c: (*mut Self, isize, isize),
    );
}

/// `2^n e^r` with `x = n log 2 + r`, `|r| <= log(2)/2`, and the series of `e^r` to `r^7/7!`
/// (remainder below `6e-9`). No call and no branch, so that a loop over it becomes vector code.
#[inline(always)]
fn exp_f32(x: f32) -> f32 {
    // log 2 in two parts, the first with enough trailing zeros that `n` times it is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * HIGH) - n * LOW;
    let tail = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let tail = 1.0 / 2.0 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * tail));
    let series = 1.0 + (r + r * r * tail);
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    // Written so that a NaN stays one.
    if x < -87.0 { 0.0 } else { series * scale }
}

macro_rules! real {
    ($t:ty, $name:literal, $wide:ident, $gemm:path, $exp:path) => {
        impl Real for $t {
            const NAME: &'static str = $name;
            const EPSILON: f64 = <$t>::EPSILON as f64;
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline(always)]
            fn exp_of_nonpositive(self) -> Self {
                $exp(self)
            }
            #[allow(unsafe_code)]
            unsafe fn raw_gemm(
                (m, k, n): (usize, usize, usize),
                alpha: Self,
                (a, ra, ca): (*const Self, isize, isize),
                (b, rb, cb): (*const Self, isize, isize),
                accumulate: bool,
                (c, rc, cc): (*mut Self, isize, isize),
            ) {
                // A narrow product is bound by memory, and packing would double it.
                #[cfg(target_arch = "x86_64")]
                if m.min(n) >= 8 && wide_products() {
                    use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet, gemm};
                    let add = if accumulate {
                        Accum::Add
                    } else {
                        Accum::Replace
                    };
                    let (none, scale) = (std::ptr::null(), &raw const alpha);
                    // SAFETY: the caller vouches for shapes and strides, and the processor has
                    // AVX-512; there are no index lists and no diagonal. The kernels leave the
                    // upper halves of the vector registers filled, which slows down the code
                    // after them that does not use them: hence the last call.
                    unsafe {
                        gemm(
                            DType::$wide,
                            IType::U64,
                            InstrSet::Avx512,
                            m,
                            n,
                            k,
                            c.cast(),
                            rc,
                            cc,
                            none,
                            none,
                            DstKind::Full,
                            add,
                            a.cast(),
                            ra,
                            ca,
                            false,
                            none,
                            0,
                            b.cast(),
                            rb,
                            cb,
                            false,
                            scale.cast(),
                            1,
                        );
                        std::arch::x86_64::_mm256_zeroupper();
                    }
                    return;
                }
                let beta = if accumulate { 1.0 } else { 0.0 };
                // SAFETY: the caller vouches for shapes and strides.
                unsafe { $gemm(m, k, n, alpha, a, ra, ca, b, rb, cb, beta, c, rc, cc) }
            }
        }
    };
}
real!(f32, "f32", F32, matrixmultiply::sgemm, exp_f32);
real!(f64, "f64", F64, matrixmultiply::dgemm, f64::exp);

/// Dense row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix<R> {
    rows: usize,
    cols: usize,
    data: Vec<R>,
}

impl<R: Real> Matrix<R> {
    /// All zeros, `rows x cols`.
    #[must_use]
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Matrix {
            rows,
            cols,
            data: vec![R::default(); rows * cols],
        }
    }

    /// From row-major data.
    ///
    /// # Panics
    /// If the length is not `rows * cols`.
    #[must_use]
    pub fn from_vec(rows: usize, cols: usize, data: Vec<R>) -> Self {
        assert_eq!(
            data.len(),
            rows * cols,
            "matrix data does not fill its shape"
        );
        Matrix { rows, cols, data }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    #[must_use]
    pub fn row(&self, i: usize) -> &[R] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// Row `i`, mutable.
    pub fn row_mut(&mut self, i: usize) -> &mut [R] {
        &mut self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// All entries, row by row.
    #[must_use]
    pub fn data(&self) -> &[R] {
        &self.data
    }

    /// All entries, mutable.
    pub fn data_mut(&mut self) -> &mut [R] {
        &mut self.data
    }

    /// The whole matrix as a view.
    #[must_use]
    pub fn view(&self) -> View<'_, R> {
        View::new(&self.data, self.rows, self.cols)
    }

    /// Rows `from..to` as a view.
    #[must_use]
    pub fn rows_view(&self, from: usize, to: usize) -> View<'_, R> {
        View::new(
            &self.data[from * self.cols..to * self.cols],
            to - from,
            self.cols,
        )
    }

    /// Subtracts from every row the mean row, and returns that mean.
    pub fn centre_rows(&mut self) -> Vec<R> {
        let mut mean = vec![0.0f64; self.cols];
        for row in self.data.chunks_exact(self.cols.max(1)) {
            for (m, x) in mean.iter_mut().zip(row) {
                *m += x.to_f64();
            }
        }
        let mean: Vec<R> = mean
            .iter()
            .map(|m| R::from_f64(m / self.rows as f64))
            .collect();
        for row in self.data.chunks_exact_mut(self.cols.max(1)) {
            for (x, m) in row.iter_mut().zip(&mean) {
                *x -= *m;
            }
        }
        mean
    }
}

/// Read-only strided view; [`View::t`] transposes it without a copy.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, R> {
    data: &'a [R],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, R: Real> View<'a, R> {
    /// Row-major data seen as `rows x cols`.
    ///
    /// # Panics
    /// If the length is not `rows * cols`.
    #[must_use]
    pub fn new(data: &'a [R], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "view does not fill its shape");
        View {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// Copies a view that is not transposed into a row-major slice.
    ///
    /// # Panics
    /// If the view is transposed or the target has another size.
    pub fn copy_rows_to(self, target: &mut [R]) {
        assert_eq!(
            self.col_stride, 1,
            "a transposed view has no contiguous rows"
        );
        target.copy_from_slice(self.data);
    }

    /// The transpose.
    #[must_use]
    pub fn t(self) -> Self {
        View {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }
}

/// `c <- alpha a b + beta c` for row-major `c` of shape `a.rows x b.cols`.
///
/// # Panics
/// If the shapes do not fit.
#[allow(unsafe_code)]
pub fn gemm<R: Real>(alpha: R, a: View<'_, R>, b: View<'_, R>, beta: R, c: &mut [R]) {
    assert_eq!(a.cols, b.rows, "inner dimensions of the product differ");
    assert_eq!(
        c.len(),
        a.rows * b.cols,
        "the result does not fit the product"
    );
    if beta == R::default() {
        if a.cols == 0 {
            c.fill(beta);
        }
    } else if beta != R::from_f64(1.0) {
        for x in c.iter_mut() {
            *x *= beta;
        }
    }
    // SAFETY: a `View` is built over exactly rows * cols entries and keeps its strides under
    // transposition, so every (i, j) inside its shape lies inside its slice; `c` is row-major
    // with exactly a.rows * b.cols entries and, being `&mut`, overlaps neither input.
    unsafe {
        R::raw_gemm(
            (a.rows, a.cols, b.cols),
            alpha,
            (
                a.data.as_ptr(),
                a.row_stride as isize,
                a.col_stride as isize,
            ),
            (
                b.data.as_ptr(),
                b.row_stride as isize,
                b.col_stride as isize,
            ),
            beta != R::default(),
            (c.as_mut_ptr(), b.cols as isize, 1),
        );
    }
}

/// `y <- a x` for a row-major `a`.
///
/// # Panics
/// If the shapes do not fit.
pub fn gemv<R: Real>(a: View<'_, R>, x: &[R], y: &mut [R]) {
    gemm(
        R::from_f64(1.0),
        a,
        View::new(x, x.len(), 1),
        R::default(),
        y,
    );
}

/// Inner product in index order.
///
/// # Panics
/// If the lengths differ.
#[must_use]
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    assert_eq!(a.len(), b.len(), "vectors of different length");
    let mut sum = R::default();
    for (x, y) in a.iter().zip(b) {
        sum += *x * *y;
    }
    sum
}

/// Index of the largest entry, the lowest one among equals; 0 for an empty slice.
#[must_use]
pub fn argmax<R: Real>(x: &[R]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate().skip(1) {
        if *v > x[best] {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_transpose_variants_agree_with_the_definition() {
        // The narrow path and the wide one, with inner lengths beyond a block of either.
        for shape in [
            (3, 4, 5),
            (1, 700, 9),
            (9, 0, 11),
            (37, 1100, 23),
            (130, 65, 97),
        ] {
            variants_agree(shape);
        }
    }

    fn variants_agree((m, k, n): (usize, usize, usize)) {
        let a: Vec<f64> = (0..m * k).map(|i| (i as f64 * 0.7).sin()).collect();
        let b: Vec<f64> = (0..k * n).map(|i| (i as f64 * 0.3).cos()).collect();
        let transpose = |x: &[f64], r: usize, c: usize| -> Vec<f64> {
            (0..r * c).map(|i| x[(i % r) * c + i / r]).collect()
        };
        let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
        let va = [View::new(&a, m, k), View::new(&at, k, m).t()];
        let vb = [View::new(&b, k, n), View::new(&bt, n, k).t()];
        for a_view in va {
            for b_view in vb {
                let mut c = vec![1.0; m * n];
                gemm(2.0, a_view, b_view, -1.0, &mut c);
                for i in 0..m {
                    for j in 0..n {
                        let sum: f64 = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
                        let bound = 1e-14 * (k as f64 / 4.0).max(1.0);
                        assert!((c[i * n + j] - (2.0 * sum - 1.0)).abs() < bound);
                    }
                }
            }
        }
    }

    #[test]
    fn the_single_precision_exponential_is_within_two_units() {
        let mut worst = 0.0f64;
        for i in 0..870_000 {
            let x = -1e-4 * i as f32;
            let exact = f64::from(x).exp();
            let found = x.exp_of_nonpositive();
            let unit = f64::from(found) * f64::from(f32::EPSILON);
            worst = worst.max((f64::from(found) - exact).abs() / unit);
        }
        assert!(worst < 2.0, "{worst} units");
        assert_eq!(0.0f32.exp_of_nonpositive(), 1.0);
        assert_eq!(f32::NEG_INFINITY.exp_of_nonpositive(), 0.0);
        assert!(f32::NAN.exp_of_nonpositive().is_nan());
    }

    #[test]
    fn the_mean_row_is_summed_in_doubles() {
        let rows = 200_000;
        let mut table = Matrix::from_vec(rows, 1, vec![0.1f32; rows]);
        assert_eq!(table.centre_rows(), [0.1f32]);
        assert!(table.data().iter().all(|x| *x == 0.0));
    }

    #[test]
    fn ties_go_to_the_lowest_index() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[0.0f32; 4]), 0);
    }
}
